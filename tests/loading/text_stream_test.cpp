#include "data/text_stream.h"

#include <gtest/gtest.h>

#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

/// Gives its bytes in pieces of a few each.
class SmallByteStream : public ByteStream {
 public:
  SmallByteStream(std::string_view bytes, std::size_t size) : bytes_(bytes), size_(size) {}
  std::string_view next() override {
    const auto piece = bytes_.substr(0, size_);
    bytes_.remove_prefix(piece.size());
    return piece;
  }

 private:
  std::string_view bytes_;
  std::size_t size_;
};

struct Read {
  std::string text, note;
};

Read read(const std::string& bytes, std::size_t piece = 1 << 18, bool is_jsonl = false) {
  TextStream stream(std::make_unique<SmallByteStream>(bytes, piece), {"a.txt", is_jsonl, "text"});
  Read result;
  for (auto next = stream.next(); !next.empty(); next = stream.next()) {
    result.text += next;
  }
  EXPECT_TRUE(stream.next().empty()) << "the end stays the end";
  result.note = stream.note();
  return result;
}

TEST(TextStream, LeavesOutTheByteOrderMarkHoweverThePiecesFall) {
  for (const std::size_t piece : {1, 2, 3, 4, 100}) {
    EXPECT_EQ(read("\xEF\xBB\xBFone\xEF\xBB\xBF", piece).text, "one\xEF\xBB\xBF") << piece;
    EXPECT_EQ(read("\xEF\xBB\xBF", piece).text, "");
    EXPECT_EQ(read("\xEF\xBB", piece).text, "\xEF\xBB");
    EXPECT_EQ(read("", piece).text, "");
  }
}

TEST(TextStream, NotesTheFirstByteThatIsNoUtf8WithItsLine) {
  const std::string line = "caf\xC3\xA9 \xF0\x9F\x98\x80\n";
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += line;
  }
  const std::string bad = text + "caf\xE9\n" + text;
  for (const std::size_t piece : {3, 5, 4096, 1 << 18}) {
    EXPECT_EQ(read(text, piece).note, "");
    EXPECT_TRUE(read(bad, piece).text == bad) << "bytes are taken as they are";
    expect_mentions(read(bad, piece).note,
                    {"a.txt:1001: is not UTF-8", braid::text("byte ", text.size() + 3), "iconv"});
    expect_mentions(read("\xEF\xBB\xBF" + bad, piece).note,
                    {"a.txt:1001:", braid::text("byte ", 3 + text.size() + 3)});
  }
  expect_mentions(read("one\xC3").note, {"a.txt:1:", "byte 3"});
  expect_mentions(read("one\xED\xA0\x80").note, {"not UTF-8"});
}

TEST(TextStream, NotesZeroBytes) {
  for (const std::size_t piece : {1, 7, 100}) {
    expect_mentions(read(std::string("a long line of text\nand \0 in another", 34), piece).note,
                    {"a.txt:2:", "zero byte", "byte 24"});
  }
}

TEST(TextStream, LeavesTheTextOfJsonLinesToTheirReader) {
  EXPECT_EQ(read("{\"a\": \"\xE9\"}\n", 100, true).note, "");
  EXPECT_EQ(read("\xEF\xBB\xBF{\"text\": \"a\"}\n", 2, true).text, "{\"text\": \"a\"}\n");
}

TEST(TextStream, RefusesContainersHoweverThePiecesFall) {
  for (const std::size_t piece : {1, 2, 300}) {
    expect_mentions(error_of([&] { read("PAR1 and more", piece); }), {"a.txt", "Parquet"});
    expect_mentions(error_of([&] { read("[{\"text\": 1}]", piece, true); }), {"JSON array"});
  }
}

}  // namespace
}  // namespace braid::testing
