// `braid tokenize`, and stores in place of texts.
#include <sstream>

#include <nlohmann/json.hpp>

#include "data/byte_tokenizer.h"
#include "data/token_store.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::expect_error;
using testing::expect_mentions;

class Tokenize : public testing::CliTest {
 protected:
  testing::Outcome tokenize(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {
        "tokenize", "corpus.txt", "--document-separator", "%", "--tokenizer", "bytes"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return braid(arguments);
  }
  testing::Outcome train(const std::string& data) const {
    return braid({"train", "run.yaml", "--set", "data.train=[" + data + "]"});
  }
};

TEST_F(Tokenize, MakesAStoreThatTrainsAndIsJudgedAsItsTextsAre) {
  const auto made = tokenize({"-o", "made.tokens"});
  ASSERT_EQ(made.status, 0) << made.err;
  expect_mentions(made.out, {"made.tokens", "bytes", "documents", "60"});
  const auto trained = train("made.tokens");
  ASSERT_EQ(trained.status, 0) << trained.err;
  const auto evaluated = [&](const std::vector<std::string>& data) {
    std::vector<std::string> arguments = {"evaluate", "runs/run", "--json", "--data"};
    arguments.insert(arguments.end(), data.begin(), data.end());
    return braid(arguments).out;
  };
  const auto of_store = evaluated({"made.tokens"});
  EXPECT_EQ(of_store, evaluated({"corpus.txt", "--document-separator", "%"}));
  EXPECT_EQ(json::parse(of_store).at("documents"), 60);
}

TEST_F(Tokenize, PrintsRowsAndThenNothingElseOnStandardOutput) {
  write("in.jsonl", "{\"text\": \"ab<think>\"}\n{\"text\": \"\u00e9\"}\n");
  const auto outcome = braid({"tokenize", "in.jsonl", "--tokenizer", "bytes", "--jsonl", "--json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  std::istringstream lines(outcome.out);
  std::vector<json> rows;
  for (std::string line; std::getline(lines, line);) {
    rows.push_back(json::parse(line));
  }
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("text"), "ab<think>");
  EXPECT_EQ(rows[0].at("ids").get<std::vector<int64_t>>(), ByteTokenizer().encode("ab<think>"));
  EXPECT_EQ(rows[1].at("ids"), json({3 + 0xC3, 3 + 0xA9}));
  const auto statistics = json::parse(outcome.err);
  EXPECT_EQ(statistics.at("documents"), 2);
  EXPECT_EQ(statistics.at("tokens"), 11);
  EXPECT_EQ(statistics.at("text_bytes"), 11);
  EXPECT_EQ(statistics.at("bytes_per_token"), 1);
  EXPECT_EQ(statistics.at("tokens_of_longest_document"), 9);
  EXPECT_EQ(statistics.at("special_tokens"), 0);
  const auto into_file =
      braid({"tokenize", "in.jsonl", "--tokenizer", "bytes", "--jsonl", "-o", "rows.jsonl"});
  EXPECT_EQ(into_file.status, 0) << into_file.err;
  EXPECT_EQ(read_file(folder_ / "rows.jsonl"), outcome.out);
}

TEST_F(Tokenize, NamesWhatIsInTheWay) {
  expect_error(tokenize({}), {"where to", "--output", "--jsonl"});
  expect_error(tokenize({"-o", "run.yaml"}), {"run.yaml", "is in the way of a token store"});
  expect_error(tokenize({"-o", "corpus.txt"}), {"corpus.txt", "would overwrite a text"});
  expect_error(tokenize({"--jsonl", "-o", "corpus.txt"}), {"corpus.txt"});
  expect_error(braid({"tokenize", "absent", "--tokenizer", "bytes", "-o", "a.tokens"}),
               {"absent: no such file"});
  expect_error(braid({"tokenize", "corpus.txt", "--tokenizer", "absent", "-o", "a.tokens"}),
               {"--tokenizer absent", "does not exist"});
  write("blank.txt", " \n");
  for (const char* rows : {"--jsonl", "--json"}) {
    expect_error(braid({"tokenize", "blank.txt", "--tokenizer", "bytes", "-o", "a.tokens", rows}),
                 {"blank.txt", "holds no document"});
  }
  EXPECT_FALSE(fs::exists(folder_ / "a.tokens"));
}

TEST_F(Tokenize, AStoreOfAnotherTokenizerIsNoTrainingData) {
  write("other/tokenizer.json", byte_tokenizer_json());
  const auto made = braid(
      {"tokenize", "corpus.txt", "--tokenizer", "other/tokenizer.json", "-o", "other.tokens"});
  ASSERT_EQ(made.status, 0) << made.err;
  expect_error(train("other.tokens"), {"other.tokens", "'bpe-", "'bytes'", "braid tokenize"});
}

TEST_F(Tokenize, AStoreThatIsThereIsLeftAloneUnlessItsTextChanged) {
  ASSERT_EQ(tokenize({"-o", "made.tokens"}).status, 0);
  const auto before = fs::last_write_time(folder_ / "made.tokens");
  const auto again = tokenize({"-o", "made.tokens", "--json"});
  expect_mentions(again.err, {"note: made.tokens: was there already"});
  EXPECT_EQ(json::parse(again.out).at("documents"), 60);
  EXPECT_EQ(fs::last_write_time(folder_ / "made.tokens"), before);
  write("corpus.txt", "a new text\n");
  EXPECT_EQ(json::parse(tokenize({"-o", "made.tokens", "--json"}).out).at("documents"), 1);
}

}  // namespace
}  // namespace braid
