// Files of samples: their formats, what is wrong with them, and what fits a sequence.
#include "data/sample_documents.h"

#include <set>

#include <gtest/gtest.h>

#include "data/json_array.h"
#include "data/prepare.h"
#include "data/sample_survey.h"
#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

namespace fs = std::filesystem;

std::string sample(const std::string& question, const std::string& answer) {
  return R"({"prompt": ")" + question + R"(", "completion": ")" + answer + "\"}\n";
}

class SampleDocumentsTest : public CorpusTest {
 protected:
  std::vector<std::string> read(const TextSource& source) {
    std::vector<std::string> answers;
    const auto documents = open_documents(source, tokenizer_);
    for (Document document; documents->next(document);) {
      answers.push_back(tokenizer_.decode(document.ids));
    }
    notes_ = documents->notes();
    return answers;
  }

  std::vector<std::string> notes_;
};

TEST_F(SampleDocumentsTest, TheFormatIsGuessedOrNamed) {
  const auto chat = write("chat.jsonl", "\n{\"id\": 3}\n" + sample("q", "a"));
  const auto both = write("both.jsonl", R"({"text": "t", "messages": []})");
  EXPECT_EQ(format_of(chat, SampleFormat::kAuto, "text").format, SampleFormat::kPrompt);
  EXPECT_TRUE(format_of(chat, SampleFormat::kAuto, "text").guessed);
  EXPECT_EQ(format_of(chat, SampleFormat::kTokens, "text").format, SampleFormat::kTokens);
  EXPECT_EQ(format_of(write("a.txt", sample("q", "a")), SampleFormat::kAuto, "text").format,
            SampleFormat::kText);
  EXPECT_EQ(format_of(both, SampleFormat::kAuto, "text").format, SampleFormat::kText);
  expect_mentions(format_of(both, SampleFormat::kAuto, "text").note,
                  {"both.jsonl", "messages", "'text'"});
  expect_mentions(formats_of({.paths = {chat}}).lines.at(0),
                  {"chat.jsonl: samples of format prompt (guessed from the keys"});
}

TEST_F(SampleDocumentsTest, AnArrayGivesTheSameDocumentsAsLines) {
  const auto lines = write("a.jsonl", sample("q", "one") + sample("q", "]two,"));
  const auto array = write(
      "b.json",
      " [\n{\"prompt\": \"q\",\n \"completion\": \"one\"} ,\n" + sample("q", "]two,") + "]\n");
  EXPECT_EQ(read({.paths = {lines}}), (std::vector<std::string>{"qone", "q]two,"}));
  EXPECT_EQ(read({.paths = {array}}), (std::vector<std::string>{"qone", "q]two,"}));
}

TEST_F(SampleDocumentsTest, ADamagedArrayIsAnErrorWithItsPlace) {
  const auto error = [&](const std::string& contents) {
    const auto file = write("a.json", contents);
    TextSource source{.paths = {file}};
    source.samples.format = SampleFormat::kPrompt;
    return error_of([&] { read(source); });
  };
  const std::string good = sample("q", "a");
  expect_mentions(error("[" + good), {"a.json: its JSON array does not end (behind item 0)"});
  expect_mentions(error("[" + good + "] x"), {"something behind the end"});
  expect_mentions(error("[" + good + ",]"), {"no item before the ']' behind item 1"});
  expect_mentions(error("[" + good + ", {\"prompt\": 3}]"),
                  {"a.json: item 2 has a number under 'prompt'", "format prompt"});
}

TEST_F(SampleDocumentsTest, BadSamplesAreNamedTogetherOrSkippedAndCounted) {
  const auto file = write("a.jsonl",
                          sample("q", "a") + "{\"prompt\": \"q\"}\n" + sample("q", "b") +
                              "{\"prompt\": 1, \"completion\": 2}\n");
  expect_mentions(error_of([&] { read({.paths = {file}}); }),
                  {"a.jsonl:2: this line has no key 'completion'; line 4 has a number",
                   "format prompt",
                   "data.on_bad_sample: skip"});
  EXPECT_EQ(read({.paths = {file}, .on_bad_line = OnBadLine::kSkip}).size(), 2u);
  expect_mentions(joined(notes_),
                  {"left out 2 of 4 lines: line 2 has no key 'completion'; line 4"});
}

TEST_F(SampleDocumentsTest, WhatIsTooLongIsLeftOutCutOrAnError) {
  const auto file = write("a.jsonl", sample("q", "a") + sample("q", std::string(50, 'b')));
  const auto source = [&](TooLong too_long) {
    TextSource result{.paths = {file}, .longest = 16};
    result.samples.too_long = too_long;
    return result;
  };
  EXPECT_EQ(read(source(TooLong::kDrop)), (std::vector<std::string>{"qa"}));
  expect_mentions(joined(notes_),
                  {"left out 1 of 2 samples", "more than 16 tokens", "line 2, has 55"});
  EXPECT_EQ(read(source(TooLong::kCut)),
            (std::vector<std::string>{"qa", "q" + std::string(12, 'b')}));
  expect_mentions(joined(notes_), {"cut 1 of 2 samples"});
  expect_mentions(error_of([&] { read(source(TooLong::kError)); }),
                  {"a.jsonl:2: this sample has 55 tokens, more than the 16", "data.too_long"});
  auto validation = source(TooLong::kError);
  validation.longest_key = "data.validation_seq_len";
  expect_mentions(error_of([&] { read(validation); }), {"(data.validation_seq_len)"});
}

TEST_F(SampleDocumentsTest, MessagesThatAMaskedHistoryLeavesUntrainedAreCounted) {
  const std::string turns = R"({"role": "user", "content": "q"}, )"
                            R"({"role": "assistant", "content": "a"})";
  const auto file = write("a.jsonl",
                          R"({"messages": [)" + turns + ", " + turns + ", " + turns + "]}\n" +
                              R"({"messages": [)" + turns + "]}\n");
  TextSource source{.paths = {file}};
  source.samples.format = SampleFormat::kMessages;
  read(source);
  EXPECT_TRUE(notes_.empty()) << joined(notes_);
  source.samples.mask_history = true;
  read(source);
  expect_mentions(joined(notes_), {"a.jsonl: 2 messages before the last", "data.mask_history"});
  source.samples.roles_to_train = {ChatRole::kUser, ChatRole::kAssistant};
  read(source);
  expect_mentions(joined(notes_), {"a.jsonl: 6 messages"});  // four of users
}

TEST_F(SampleDocumentsTest, OnlyTheFirstSamplesOfAPathAreRead) {
  const auto pairs = write("a.jsonl",
                           R"({"prompt": "q", "chosen": "a", "rejected": "b"})"
                           "\n"
                           R"({"prompt": "q", "chosen": "c", "rejected": "d"})"
                           "\n");
  const auto texts = write("b.jsonl", "{\"text\": \"x\"}\n{\"text\": \"y\"}\n");
  EXPECT_EQ(read({.paths = {pairs, texts}, .of_paths = {{.max_samples = 1}, {.max_samples = 1}}}),
            (std::vector<std::string>{"qa", "qb", "x"}));
}

TEST_F(SampleDocumentsTest, TheSurveyCountsWhatTrainingWouldLearnAndWhatIsWrong) {
  const auto file = write("a.jsonl",
                          sample("q", "a") + "{\"prompt\": \"q\"}\n" + sample("q", "abc") +
                              "{\"prompt\": 1}\nno\n" + sample("q", std::string(50, 'b')));
  const auto survey = survey_samples({.paths = {file}, .longest = 16}, tokenizer_);
  EXPECT_EQ(survey.samples, 3);
  EXPECT_EQ(survey.trained_tokens, 2 + 4);
  EXPECT_EQ(survey.too_long, 1);
  EXPECT_EQ(survey.lengths, (std::vector<int64_t>{7, 9, 56}));
  EXPECT_EQ(survey.length_at(0.5), 9);
  ASSERT_EQ(survey.problems.size(), 2u);
  const auto& keys = survey.problems.at("a key is missing or wrong");
  EXPECT_EQ(keys.count, 2);
  expect_mentions(keys.first, {"a.jsonl:2: has no key 'completion'"});
  EXPECT_EQ(survey.problems.at("no JSON object").count, 1);
}

class PreparedSamples : public SampleDocumentsTest {
 protected:
  PreparedData prepared() const {
    return prepare_data(
        config_, tokenizer_, {folder_ / "run/data", folder_ / "run/validation.jsonl"});
  }
  DataSection config_;
};

TEST_F(PreparedSamples, AnOptionThatMattersBuildsTheStoresAgain) {
  config_.train = {
      write("a.jsonl", sample("q", "a") + sample("q", std::string(1200, 'b'))).string()};
  config_.validation_fraction = 0;
  config_.seq_len = 1000;
  std::set<std::string> digests;
  const auto digest = [&] {
    const bool is_new = digests.insert(prepared().training.at(0).store->sources_digest()).second;
    return is_new;
  };
  EXPECT_TRUE(digest());
  EXPECT_FALSE(digest());
  config_.seq_len = 1001;
  EXPECT_TRUE(digest());
  config_.too_long = TooLong::kCut;
  EXPECT_TRUE(digest());
  config_.train_on_eos = TrainOnEos::kNone;
  EXPECT_TRUE(digest());
  config_.roles_to_train = {ChatRole::kUser};
  EXPECT_TRUE(digest());
  config_.thinking = Thinking::kOn;
  EXPECT_TRUE(digest());
  config_.reasoning_effort = ReasoningEffort::kHigh;
  EXPECT_TRUE(digest());
  config_.mask_history = true;
  config_.roles_to_train = {ChatRole::kAssistant};
  EXPECT_TRUE(digest());
  config_.train[0].max_samples = 1;
  EXPECT_TRUE(digest());
}

TEST_F(PreparedSamples, TheValidationTextReadsBackToTheSameDocuments) {
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    lines += R"({"weight": )" + std::string(i % 2 == 0 ? "1" : "0.3") + "," +
             sample("q", text("answer ", i)).substr(1);
  }
  config_.train = {write("a.jsonl", lines).string()};
  config_.validation_fraction = 0.3;
  const auto data = prepared();
  EXPECT_TRUE(data.has_samples);
  EXPECT_EQ(data.formats.size(), 1u);
  const DocumentStore& store = *data.validation.at(0).store;
  EXPECT_EQ(store.num_documents() + data.training.at(0).store->num_documents(), 60);
  const auto documents = open_documents({.paths = {folder_ / "run/validation.jsonl"}}, tokenizer_);
  int64_t i = 0;
  for (Document document; documents->next(document); ++i) {
    EXPECT_EQ(document.ids, store.document(i).ids);
    EXPECT_EQ(document.targets, store.document(i).targets);
  }
  EXPECT_EQ(i, store.num_documents());
}

TEST_F(PreparedSamples, SamplesThatNothingLeavesWholeAreRefused) {
  config_.train = {write("a.jsonl", sample("q", std::string(50, 'b'))).string()};
  config_.seq_len = 16;
  config_.validation_fraction = 0;
  expect_mentions(error_of([&] { prepared(); }),
                  {"a.jsonl: holds no document", "left out 1 of 1 samples", "line 1, has 55"});
  config_.validation = ValidationSets(std::vector<ValidationSet>{{"", {config_.train[0].path}}});
  config_.validation_seq_len = 20;
  config_.seq_len = 64;
  expect_mentions(error_of([&] { prepared(); }), {"more than 20", "(data.validation_seq_len;"});
  config_.validation = {};
  config_.seq_len = 64;
  config_.validation_seq_len = 32;
  config_.validation_fraction = 0.1;
  expect_mentions(error_of([&] { prepared(); }), {"32", "less than data.seq_len 64"});
}

TEST_F(PreparedSamples, PreferencesBecomePairsOfWhichTheLastAnswersAreTrained) {
  const std::string earlier =
      R"({"role": "user", "content": "p"}, {"role": "assistant", "content": "said before"}, )"
      R"({"role": "user", "content": "q"})";
  const auto row = [&](const std::string& more) {
    return R"({"prompt": [)" + earlier + R"(], "chosen": "yes", "rejected": "never")" + more +
           "}\n";
  };
  config_.train = {write("a.jsonl", row("") + row("")).string()};
  config_.validation_fraction = 0;
  const auto data = prepared();
  const auto& store = *data.training[0].store;
  ASSERT_EQ(store.num_documents(), 4);
  EXPECT_EQ(store.documents_per_sample(), 2);
  const auto trained = [&](int64_t document) {
    int64_t targets = 0;
    for (const auto& span : store.document(document).targets) {
      targets += span.end - span.begin;
    }
    return targets;
  };
  EXPECT_EQ(trained(0), 4);  // "yes" and the end token
  EXPECT_EQ(trained(1), 6);  // "never"

  config_.train = {write("b.jsonl", row(R"(, "weight": 2)")).string()};
  expect_mentions(error_of([&] { prepared(); }), {"b.jsonl:1", "'weight'", "preferences"});
  config_.train = {write("c.jsonl", row("") + sample("q", "a")).string()};
  config_.format = SampleFormat::kAuto;
  expect_mentions(error_of([&] { prepared(); }), {"c.jsonl:2", "chosen"});
  const int64_t both = store.num_inputs(0) + store.num_inputs(1);
  config_.train = {(folder_ / "a.jsonl").string()};
  config_.seq_len = both - 1;
  config_.too_long = TooLong::kCut;
  EXPECT_EQ(prepared().training[0].store->num_inputs(1), both - 1 - store.num_inputs(0));
}

TEST_F(PreparedSamples, RowsHoldWholeConversationsAndSayHowFullTheyAre) {
  std::string lines;
  for (int i = 0; i < 20; ++i) {
    lines += sample("q", "abc");  // 8 inputs
  }
  config_.train = {write("a.jsonl", lines).string()};
  config_.validation_fraction = 0;
  const auto data = prepared();
  const SampleStream stream(*data.training[0].store, {});
  EXPECT_EQ(stream.filled_share(8), 1);
  EXPECT_EQ(stream.filled_share(12), 8.0 / 12);
  EXPECT_EQ(stream.filled_share(16), 1);
}

}  // namespace
}  // namespace braid::testing
