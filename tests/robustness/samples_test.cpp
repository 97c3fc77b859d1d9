// Fine-tuning data as people have it: every format trains, and what is wrong is said before a run.
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::expect_error;
using testing::expect_mentions;

const fs::path kExamples = fs::path(BRAID_TEST_DATA) / "examples";

class Samples : public testing::CliTest {
 protected:
  Samples() { fs::copy(kExamples, folder_, fs::copy_options::recursive); }

  std::vector<std::string> command(const std::string& train,
                                   const std::vector<std::string>& more = {}) const {
    auto arguments = one_step_on(train, {"--set", "data.seq_len=2048"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

TEST_F(Samples, OneOfEachFormatTrainsAndItsFormatIsSaid) {
  for (const char* format : {"messages", "sharegpt", "alpaca", "prompt", "tokens"}) {
    const auto trained = braid(command(text(format, ".jsonl")));
    EXPECT_EQ(trained.status, 0) << trained.err;
    expect_mentions(trained.out,
                    {text(format, ".jsonl: samples of format ", format, " (guessed from the keys"),
                     "of its tokens are trained (",
                     "rows of 2048 are "});
  }
}

TEST_F(Samples, PreferencesAreLearnedByTheirObjectiveAndNoOther) {
  expect_error(braid(command("preference.jsonl")),
               {"loss.objective", "holds pairs", "expected loss.objective: preference"});
  expect_error(braid(command("messages.jsonl", {"--set", "loss.objective=preference"})),
               {"loss.objective", "holds no pairs", "data.format: preference"});
  std::vector<std::string> preferring = {"train",
                                         "run.yaml",
                                         "--set",
                                         "data.train=[preference.jsonl]",
                                         "--set",
                                         "data.validation=[preference.jsonl]",
                                         "--set",
                                         "data.seq_len=128",
                                         "--set",
                                         "data.validation_seq_len=128",
                                         "--set",
                                         "loss.objective=preference",
                                         "--set",
                                         "run.name=preferring",
                                         "--set",
                                         "train.max_steps=4"};
  const auto trained = braid(preferring);
  EXPECT_EQ(trained.status, 0) << trained.err;
  expect_mentions(trained.out,
                  {"scoring the answers with the model that the run starts from",
                   "validation loss",
                   "margin",
                   "accuracy 1"});
  preferring.back() = "train.max_steps=5";
  const auto resumed = braid(preferring);
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(resumed.out.find("scoring the answers"), std::string::npos) << "they were kept";
}

TEST_F(Samples, ABadSampleEndsTheRunOrIsCounted) {
  write("bad.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}\n"
        "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, "
        "{\"role\": \"assistant\", \"content\": \"a\"}]}\n"
        "{\"messages\": [{\"role\": \"robot\", \"content\": \"q\"}]}\n");
  expect_error(braid(command("bad.jsonl")),
               {"bad.jsonl:1: this line has no trained token; line 3 has a wrong role in "
                "messages[0]: 'robot' is no role",
                "data.on_bad_sample: skip"});
  const auto trained = braid(command("bad.jsonl", {"--set", "data.on_bad_sample=skip"}));
  EXPECT_EQ(trained.status, 0) << trained.err;
  expect_mentions(trained.out,
                  {"note: bad.jsonl: left out 2 of 3 lines: line 1 has no trained token; line 3"});
}

TEST_F(Samples, RenderShowsWhatIsTrained) {
  const auto plain = braid({"render", "messages.jsonl"});
  EXPECT_EQ(plain.status, 0) << plain.err;
  EXPECT_EQ(plain.out,
            "<｜begin▁of▁sentence｜>Answer in one sentence.<｜User｜>What is a "
            "braid?<｜Assistant｜></think>[[Three or more strands that cross each other in "
            "turn.<｜end▁of▁sentence｜>]]\n");
  const auto second = braid({"render", "messages.jsonl", "--row", "2"});
  EXPECT_EQ(second.out,
            "<｜begin▁of▁sentence｜><｜User｜>And 17 * 3?<｜Assistant｜><think>[[17 * 3 = "
            "51.</think>51<｜end▁of▁sentence｜>]]x0.5\n");
  const auto off = braid({"render", "messages.jsonl", "--row", "2", "--set", "data.thinking=off"});
  expect_mentions(off.out, {"<｜Assistant｜></think>[[51"});
  const auto ids = braid({"render", "tokens.jsonl", "--ids"});
  expect_mentions(ids.out, {"position", "\"<｜begin▁of▁sentence｜>\"", "\"<｜User｜>\""});
  const auto pair = braid({"render", "preference.jsonl"});
  expect_mentions(pair.out, {"[[Strands that cross", "[[Hair."});
  expect_mentions(pair.err, {"chosen", "rejected"});
  expect_error(braid({"render", "messages.jsonl", "--row", "9"}),
               {"has no row 9", "last one is 3"});
  write("a.txt", "text");
  expect_error(braid({"render", "a.txt"}), {"a.txt: is plain text"});
}

TEST_F(Samples, TheCheckFindsEverythingThatIsWrong) {
  const auto good = braid({"render", "messages.jsonl", "--check", "--json"});
  EXPECT_EQ(good.status, 0) << good.err;
  EXPECT_EQ(json::parse(good.out)["samples"], 3);
  EXPECT_EQ(json::parse(good.out)["wrong"], 0);
  write("bad.jsonl",
        "{\"messages\": []}\nno\n{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, "
        "{\"role\": \"assistant\", \"content\": \"a\", \"x\": 1}]}\n{\"messages\": []}\n");
  const auto bad =
      braid({"render", "bad.jsonl", "messages.jsonl", "--check", "--set", "data.seq_len=64"});
  EXPECT_EQ(bad.status, 1);
  expect_mentions(bad.out,
                  {"an empty conversation",
                   "bad.jsonl:1: has no messages",
                   "bad.jsonl:2: is not valid JSON",
                   "bad.jsonl:3: has the unknown field 'x' in messages[1]",
                   "too long"});
}

TEST_F(Samples, EvaluateJudgesTrainedTokensByTheirWeights) {
  ASSERT_EQ(braid(command("messages.jsonl")).status, 0);
  const auto judged = braid({"evaluate",
                             "runs/run",
                             "--data",
                             "prompt.jsonl",
                             "--seq-len",
                             "2048",
                             "--json",
                             "--set",
                             "data.train_on_eos=none"});
  ASSERT_EQ(judged.status, 0) << judged.err;
  const auto checked =
      braid({"render", "prompt.jsonl", "--check", "--json", "--set", "data.train_on_eos=none"});
  EXPECT_EQ(json::parse(judged.out)["tokens"], json::parse(checked.out)["trained_tokens"]);
  expect_mentions(judged.err, {"samples of format prompt"});
}

}  // namespace
}  // namespace braid
