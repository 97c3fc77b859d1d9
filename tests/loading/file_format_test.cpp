#include "data/file_format.h"

#include <gtest/gtest.h>

#include "tests/loading/compress.h"
#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

using std::string_literals::operator""s;

std::string refusal(const std::string& head) {
  return error_of([&] { require_text(head, "a.txt"); });
}

TEST(FileFormat, NamesWhatIsNoTextAndHowToConvertIt) {
  const auto expect = [](const std::string& head, const std::string& format, const char* advice) {
    expect_mentions(refusal(head), {"a.txt: is ", format, "JSONL", advice});
  };
  expect("PAR1\x15\x04"s, "a Parquet file", "scripts/to_jsonl.py");
  expect("ARROW1\0\0"s, "an Arrow", "scripts/to_jsonl.py");
  expect("\xFF\xFF\xFF\xFF\x10\x01\0\0"s, "an Arrow stream", "scripts/to_jsonl.py");
  expect("\xFD\x37zXZ\0\0"s, "xz", "xz -d FILE");
  expect("BZh91AY&SY\x12"s, "bzip2", "bzip2 -d FILE");
  expect(gzipped("a"), "gzip, twice", "gzip -d");
  expect(zstandard("a"), "compressed twice", "zstd -d");
  expect("PK\x03\x04\x14\0"s, "zip archive", "unpack it");
  expect("7z\xBC\xAF\x27\x1C\0\x04"s, "7z archive", "unpack it");
  expect("a.txt" + std::string(252, '\0') + "ustar\0"s, "tar archive", "unpack it");
  expect("SQLite format 3\0\x10"s, "SQLite", "export");
  expect("%PDF-1.7\n"s, "PDF", "extract its text");
  expect("\x89PNG\r\n\x1A\n"s, "PNG", "is the path right?");
  expect(
      "\x7F"
      "ELF\x02\x01"s,
      "ELF",
      "is the path right?");
  expect("\x89HDF\r\n\x1A\n"s, "HDF5", "is the path right?");
  expect("\x40\0\0\0\0\0\0\0{\"__metadata__\":{"s, "safetensors", "weights");
  expect("GGUF\x03\0\0\0"s, "GGUF", "weights");
  expect("BRAIDTOK"s, "token store", "made from");
  expect("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
         "Git LFS pointer",
         "git lfs pull");
  expect("[{\"text\": \"one\"}]", "a JSON array", "jq -c '.[]'");
  expect("\xEF\xBB\xBF\n[\n  {\n    \"text\": \"one\"", "a JSON array", "jq -c '.[]'");
}

// Each character in `width` bytes, the one that is not 0 at `place`.
std::string widened(const std::string& text, std::size_t width, std::size_t place) {
  std::string wide(text.size() * width, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) {
    wide[i * width + place] = text[i];
  }
  return wide;
}

TEST(FileFormat, NamesWideCharactersByTheirMarkOrTheirZeros) {
  const std::string text = "Some plain text, not long.\n";
  expect_mentions(refusal("\xFF\xFE" + widened(text, 2, 0)), {"UTF-16", "iconv"});
  expect_mentions(refusal("\xFE\xFF" + widened(text, 2, 1)), {"UTF-16", "iconv"});
  expect_mentions(refusal("\xFF\xFE\0\0"s + widened(text, 4, 0)), {"UTF-32", "iconv"});
  expect_mentions(refusal(widened(text, 2, 0)), {"UTF-16LE", "every second byte is 0", "iconv"});
  expect_mentions(refusal(widened(text, 2, 1)), {"UTF-16BE", "every second byte is 0"});
  expect_mentions(refusal(widened(text, 4, 0)), {"UTF-32LE", "three of four bytes are 0"});
  expect_mentions(refusal(widened(text, 4, 3)), {"UTF-32BE", "three of four bytes are 0"});
}

TEST(FileFormat, TakesWhatMayBeText) {
  for (const std::string& head : {""s,
                                  "PK and PAR are words"s,
                                  "[1] is a reference"s,
                                  "[ [\"a\", 1] ]"s,
                                  "BZhang wrote"s,
                                  "a\0%\r\n\xff\n%\n"s,
                                  "\xEF\xBB\xBFmarked"s,
                                  std::string(100, '\0'),
                                  "Des r\xE9sum\xE9s"s}) {
    EXPECT_NO_THROW(require_plain_text(head, "text", "a.txt")) << head;
  }
}

TEST(FileFormat, JsonLinesByAnotherNameAreNoPlainText) {
  const std::string lines = "\xEF\xBB\xBF{\"id\": 1, \"text\": \"one\"}\n{\"text\": \"two\"}\n";
  EXPECT_NO_THROW(require_text(lines, "a.jsonl"));
  expect_mentions(error_of([&] { require_plain_text(lines, "text", "a.json"); }),
                  {"a.json: is JSONL by another name", "'text'", "*.jsonl"});
  EXPECT_NO_THROW(require_plain_text(lines, "content", "a.txt")) << "JSON of some other kind";
  EXPECT_NO_THROW(require_plain_text("{\"text\": 1}\n", "text", "a.txt"));
}

TEST(FileFormat, DropsTheMarkAtTheBeginningAlone) {
  EXPECT_EQ(without_byte_order_mark("\xEF\xBB\xBFone\xEF\xBB\xBF"), "one\xEF\xBB\xBF");
  EXPECT_EQ(without_byte_order_mark("\xEF\xBB"), "\xEF\xBB");
  EXPECT_EQ(without_byte_order_mark(""), "");
}

}  // namespace
}  // namespace braid::testing
