#include "data/jsonl.h"

#include <gtest/gtest.h>

#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

using Strings = std::vector<std::string>;

/// Gives its bytes in pieces of a few each.
class SmallPieces : public ByteStream {
 public:
  SmallPieces(std::string_view bytes, std::size_t size) : bytes_(bytes), size_(size) {}
  std::string_view next() override {
    const auto piece = bytes_.substr(0, size_);
    bytes_.remove_prefix(piece.size());
    return piece;
  }

 private:
  std::string_view bytes_;
  std::size_t size_;
};

Strings texts_of(std::string_view jsonl,
                 const JsonlOptions& options = {},
                 std::size_t size = 1 << 20) {
  SmallPieces stream(jsonl, size);
  Strings texts;
  JsonlReader reader(stream, "a.jsonl", options);
  while (const auto text = reader.next()) {
    texts.emplace_back(*text);
  }
  return texts;
}

std::string error_of_lines(std::string_view jsonl, const JsonlOptions& options = {}) {
  return error_of([&] { texts_of(jsonl, options); });
}

TEST(Jsonl, TakesTheTextOfEachLineWhateverElseItHolds) {
  const std::string lines =
      R"({"text": "one"})"
      "\n"
      R"({"id": 7, "meta": {"text": "not this", "list": [1, {"text": null}]}, "text": "two\nlines"})"
      "\r\n"
      R"( {"text":"caf\u00e9 \ud83d\ude00 é"} )";
  EXPECT_EQ(texts_of(lines), (Strings{"one", "two\nlines", "café 😀 é"}));
}

TEST(Jsonl, LinesMayBeginAndEndInAnyPiece) {
  const std::string lines = "{\"text\": \"one\"}\n\n{\"text\": \"two\"}\n{\"text\": \"three\"}";
  for (std::size_t size = 1; size < lines.size(); ++size) {
    EXPECT_EQ(texts_of(lines, {}, size), (Strings{"one", "two", "three"})) << size;
  }
}

TEST(Jsonl, BlankLinesAreSkippedAndCounted) {
  EXPECT_EQ(texts_of("\n \t\r\n{\"text\": \"one\"}\n\n"), Strings{"one"});
  EXPECT_EQ(texts_of(""), Strings{});
  expect_mentions(error_of_lines("\n\n7\n"), {"a.jsonl:3:"});
}

TEST(Jsonl, TheKeyCanBeAnother) {
  EXPECT_EQ(texts_of(R"({"text": 1, "content": "one"})", {.text_key = "content"}), Strings{"one"});
}

TEST(Jsonl, NamesTheLineAndWhatIsWrongWithIt) {
  const auto error = [](const std::string& line) {
    return error_of_lines("{\"text\": \"one\"}\n" + line + "\n{\"text\": \"two\"}\n");
  };
  const auto expect = [&](const std::string& line, const std::string& reason) {
    expect_mentions(
        error(line),
        {"a.jsonl:2: this line " + reason, "expected an object", "'text'", "data.text_key"});
  };
  expect("[\"text\"]", "is a list");
  expect("\"text\"", "is a string");
  expect("12", "is a number");
  expect("null", "is null");
  expect("{}", "has no key 'text'");
  expect(R"({"Text": "one", "a": {"text": "two"}})", "has no key 'text'");
  expect(R"({"text": null})", "has null under 'text'");
  expect(R"({"text": 1.5})", "has a number under 'text'");
  expect(R"({"text": true})", "has a boolean under 'text'");
  expect(R"({"text": ["one"]})", "has a list under 'text'");
  expect(R"({"text": {"text": "one"}})", "has an object under 'text'");
  expect(R"({"text": "one", "text": "two"})", "has the key 'text' twice");
  expect(R"({"text": "one")", "is not valid JSON at byte 16");
  expect(R"({"text": "one"} {"text": "two"})", "is not valid JSON at byte 17");
  expect("{'text': 'one'}", "is not valid JSON at byte 2");
  expect("{\"text\": \"\xff\"}",
         "is not valid JSON at byte 11 of the line (invalid string: ill-formed UTF-8 byte)");
  expect(R"({"text": "\ud83d"})", "is not valid JSON");
  expect("{\"text\": \"a\tb\"}", "is not valid JSON");
}

TEST(Jsonl, RefusesALineLongerThanTheBound) {
  const std::string line = R"({"text": "0123456789"})";
  for (const std::size_t piece : {3, 1000}) {
    const auto read = [&](std::size_t longest) {
      return texts_of(line + "\n" + line, {.longest_line = longest}, piece);
    };
    EXPECT_EQ(read(line.size()).size(), 2u);
    expect_mentions(error_of([&] { read(line.size() - 1); }),
                    {"a.jsonl:1: this line has more than 21 bytes"});
  }
  expect_mentions(error_of_lines("\n{\"text\":\n", {.longest_line = 8}), {"a.jsonl:2"});
}

TEST(Jsonl, SurvivesDeepNesting) {
  const std::string deep(200000, '[');
  expect_mentions(error_of_lines("{\"a\": " + deep), {"not valid JSON"});
  EXPECT_EQ(texts_of("{\"a\": " + deep + std::string(200000, ']') + ", \"text\": \"one\"}"),
            Strings{"one"});
}

}  // namespace
}  // namespace braid::testing
