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

TEST(Jsonl, OtherKeysMayHoldAnything) {
  for (const std::string value : {"NaN",
                                  "-Infinity",
                                  "1e400",
                                  "123456789012345678901234567890",
                                  "-0.5E-3",
                                  R"("\ud83d end")",
                                  R"("\ud83d\u0041")",
                                  R"("\q")",
                                  "\"\xff\xfe\"",
                                  "\"a\tb\"",
                                  "[NaN, {\"\\ud83d\": [1e400, {}, []]}]"}) {
    EXPECT_EQ(texts_of("{\"a\": " + value + ", \"text\": \"one\", \"b\": " + value + "}"),
              Strings{"one"})
        << value;
  }
  EXPECT_EQ(texts_of(R"({"\ud83d": 1, "\u0074ext": "one"})"), Strings{"one"});
  for (const std::string value : {"nan",
                                  "1e",
                                  "1.",
                                  "-",
                                  "+1",
                                  "tru",
                                  "'a'",
                                  "",
                                  "\"a",
                                  "[1}",
                                  "{1: 2}",
                                  "[1,]",
                                  "{\"a\"}"}) {
    expect_mentions(error_of_lines("{\"a\": " + value + ", \"text\": \"one\"}"),
                    {"a.jsonl:1: this line is not valid JSON at byte "});
  }
}

TEST(Jsonl, TheTextItselfMustBeExact) {
  const auto expect = [](const std::string& text, const std::string& reason) {
    expect_mentions(error_of_lines("{\"text\": " + text + "}"), {"a.jsonl:1:", reason});
  };
  expect(R"("a \ud83d b")", "at byte 13 of the line (invalid string: half of a surrogate pair");
  expect(R"("\ud83d\u0041")", "half of a surrogate pair");
  expect(R"("\ude00")", "half of a surrogate pair");
  expect(R"("\u12g4")", "four hexadecimal digits");
  expect(R"("\q")", "no such escape");
  expect("\"\xed\xa0\x80\"", "ill-formed UTF-8");
  EXPECT_EQ(texts_of(R"({"text": "\"\\\/\b\f\n\r\t\u00e9\u20AC\ud83d\ude00\u0000"})"),
            (Strings{std::string("\"\\/\b\f\n\r\té€😀\0", 18)}));
}

TEST(Jsonl, NamesUpToTenBadLinesAtOnce) {
  std::string lines = "{\"text\": \"one\"}\n";
  for (int i = 0; i < 6; ++i) {
    lines += "{\"text\": \"cut\n\n{}\n";
  }
  const auto message = error_of_lines(lines);
  expect_mentions(message,
                  {"a.jsonl:2: this line is not valid JSON at byte 15",
                   "; line 4 has no key 'text'; line 5 is not valid JSON",
                   "; line 16 has no key 'text'; expected an object",
                   "data.on_bad_sample: skip"});
  EXPECT_EQ(message.find("line 17"), std::string::npos) << message;
}

TEST(Jsonl, SkipsBadLinesWhereAskedToAndCountsThem) {
  const std::string longest = "{\"text\": \"" + std::string(100, 'x') + "\"}";
  const std::string lines = "{\"text\": \"one\"}\n{}\n" + longest + "\n\n7\n{\"text\": \"two\"}\n" +
                            longest + "\n{\"text\": \"three\"}\n" + longest;
  for (const std::size_t piece : {1, 7, 64, 1000}) {
    SmallPieces stream(lines, piece);
    JsonlReader reader(stream, "a.jsonl", {.longest_line = 50, .on_bad_line = OnBadLine::kSkip});
    Strings texts;
    while (const auto text = reader.next()) {
      texts.emplace_back(*text);
    }
    EXPECT_EQ(texts, (Strings{"one", "two", "three"})) << piece;
    EXPECT_EQ(reader.note(),
              "a.jsonl: left out 5 of 9 lines: line 2 has no key 'text'; line 3 has more than 50 "
              "bytes, which is all that a line may have; line 5 is a number; ...");
  }
}

TEST(Jsonl, AByteOrderMarkBetweenJoinedFilesIsPassedOver) {
  EXPECT_EQ(texts_of("{\"text\": \"one\"}\n\xEF\xBB\xBF{\"text\": \"two\"}\n"),
            (Strings{"one", "two"}));
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
