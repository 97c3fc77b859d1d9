// Bad lines, other people's folders, texts that are there twice, and files that change under a run.
#include "data/token_store.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::expect_mentions;

class Documents : public testing::CliTest {};

const std::string kGood = "{\"text\": \"a line that is good enough to train on\"}\n";

TEST_F(Documents, ValuesThatNobodyAskedForDoNotEndTheBuild) {
  write("odd.jsonl",
        "{\"text\": \"one, and some more of it\", \"score\": NaN}\n"
        "{\"text\": \"three, and some more of it\", \"x\": 1e400, \"y\": \"\\ud83d\"}\n");
  const auto trained = braid(one_step_on("odd.jsonl"));
  EXPECT_EQ(trained.status, 0) << trained.err;
  expect_mentions(trained.out, {"odd.jsonl: 2 documents"});
}

TEST_F(Documents, BadLinesAreNamedTogetherAndSkippedOnlyIfAsked) {
  write("bad.jsonl",
        kGood + "{\"text\": \"half \\ud83d\"}\n" + kGood +
            "{\"text\": \"cut\n{\"txt\": \"no key\"}\n");
  expect_error(braid(one_step_on("bad.jsonl")),
               {"bad.jsonl:2: this line ",
                "surrogate",
                "; line 4 is not valid JSON",
                "; line 5 has no key 'text'",
                "data.on_bad_sample: skip"});
  const auto trained = braid(one_step_on("bad.jsonl", {"--set", "data.on_bad_sample=skip"}));
  EXPECT_EQ(trained.status, 0) << trained.err;
  expect_mentions(trained.out,
                  {"bad.jsonl: 2 documents",
                   "note: bad.jsonl: left out 3 of 5 lines: line 2 is not valid JSON",
                   "line 5 has no key 'text'"});
}

TEST_F(Documents, OfAFolderTheOutputSaysWhatWasNotRead) {
  const std::string text = "A text that is long enough to learn a little from it.\n";
  write("tree/a.txt", text);
  write("tree/C.TXT", text + "C");
  write("tree/._a.txt", "Mac");
  write("tree/.ipynb_checkpoints/a-checkpoint.txt", text);
  write("tree/data.csv", "a,b\n");
  write("other/b.txt", text + "b");
  fs::create_directory_symlink("../other", folder_ / "tree/linked");
  fs::create_directory_symlink(".", folder_ / "tree/self");
  const auto trained = braid(one_step_on("tree"));
  EXPECT_EQ(trained.status, 0) << trained.err;
  expect_mentions(trained.out,
                  {"note: tree: passed over what is hidden (2): ._a.txt, .ipynb_checkpoints",
                   "note: tree: read through links to folders (1): linked",
                   "note: tree: read folders once that can be reached in several ways (1): self",
                   "note: tree: left out what is not called *.txt, *.jsonl or *.ndjson: 1 *.csv"});
  fs::create_symlink("nowhere", folder_ / "tree/gone.txt");
  expect_error(braid(one_step_on("tree")),
               {"tree/gone.txt", "link to nowhere, which is not there"});
}

TEST_F(Documents, TheSameTextTwiceAndInValidationIsSaid) {
  write("a.jsonl", kGood);
  write("b.jsonl", kGood);
  const auto trained =
      braid(one_step_on("a.jsonl, b.jsonl", {"--set", "data.validation=[a.jsonl]"}));
  EXPECT_EQ(trained.status, 0) << trained.err;
  expect_mentions(trained.out,
                  {"note: b.jsonl holds the same text as a.jsonl, which counts it twice",
                   "note: a.jsonl holds the same text as a.jsonl; the one is to train on",
                   "note: 1 of 2 documents are the same as another one",
                   "note: 1 of 1 validation documents are training documents, too"});
}

TEST_F(Documents, AnEmptyTextIsAClearErrorEverywhere) {
  train_run();
  write("empty.txt", "\n \n");
  expect_error(braid({"evaluate", "runs/run", "--data", "empty.txt"}),
               {"empty.txt", "holds no document"});
  expect_error(braid(one_step_on("run.yaml", {"--set", "data.validation=[empty.txt]"})),
               {"empty.txt", "validation corpus is empty"});
}

TEST_F(Documents, ATokenStoreThatIsCutShortEndsTheRunWithItsName) {
  testing::Program program(folder_,
                           {"train",
                            "run.yaml",
                            "--set",
                            "train.max_steps=100000",
                            "--set",
                            "checkpoint.every_steps=0",
                            "--set",
                            "train.validate_every_steps=0",
                            "--set",
                            "logging.every_steps=1"},
                           {});
  program.wait_for("| loss", 2);
  fs::path store;
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "runs/run")) {
    if (entry.path().filename() == "train.tokens") {
      store = entry.path();
    }
  }
  ASSERT_FALSE(store.empty());
  fs::resize_file(store, TokenStore::kMagic.size());
  expect_error(program.finish(), {"train.tokens", "cut short while it was in use"});
}

TEST_F(Documents, EvaluationOfAShortTextTakesNoLongRows) {
  train_run();
  write("short.txt", "A text of some forty bytes and not more.\n");
  const auto evaluated = [&](const std::string& seq_len) {
    const auto outcome =
        braid({"evaluate", "runs/run", "--data", "short.txt", "--seq-len", seq_len, "--json"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out);
  };
  const auto few = evaluated("1024"), many = evaluated("1048576");
  EXPECT_EQ(few.at("loss"), many.at("loss"));
  EXPECT_EQ(few.at("tokens"), many.at("tokens"));
}

}  // namespace
}  // namespace braid
