#include "inference/prompts_file.h"

#include "tests/loading/corpus.h"

namespace braid {
namespace {

using testing::error_of;
using testing::expect_mentions;
using PromptsFile = testing::CorpusTest;
using Strings = std::vector<std::string>;

TEST_F(PromptsFile, HoldsOnePromptALine) {
  EXPECT_EQ(read_prompts(write("a.txt", "one\r\n {\"two\"\nthree")),
            Strings({"one", " {\"two\"", "three"}));
}

TEST_F(PromptsFile, OfJsonLinesHoldsTheirPrompts) {
  EXPECT_EQ(read_prompts(
                write("a.jsonl", "{\"prompt\": \"two\\nlines\", \"id\": 7}\n{\"prompt\": \"\"}\n")),
            Strings({"two\nlines", ""}));
}

TEST_F(PromptsFile, ErrorsNameFileAndLine) {
  expect_mentions(error_of([&] { read_prompts(folder_ / "absent.txt"); }), {"absent.txt"});
  expect_mentions(error_of([&] { read_prompts(write("a.txt", "")); }), {"a.txt", "is empty"});
  expect_mentions(error_of([&] { read_prompts(write("a.txt", "x\n\ny\n")); }),
                  {"a.txt:2", "the line is empty"});
  expect_mentions(
      error_of([&] { read_prompts(write("a.jsonl", "{\"prompt\": \"x\"}\n{\"text\": 1}\n")); }),
      {"a.jsonl:2", "prompt"});
  expect_mentions(error_of([&] { read_prompts(write("a.jsonl", "{\"prompt\": 1}\n")); }),
                  {"a.jsonl:1", "expected a text"});
  expect_mentions(error_of([&] { read_prompts(write("a.jsonl", "x\n")); }), {"a.jsonl:1", "JSON"});
}

}  // namespace
}  // namespace braid
