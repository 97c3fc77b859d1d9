#include "data/byte_stream.h"

#include <gtest/gtest.h>

#include "core/random.h"
#include "tests/loading/compress.h"
#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

/// 1 MB that compresses a little: more than a piece of any decoder.
std::string large_text() {
  std::string bytes;
  for (uint64_t i = 0; bytes.size() < 1 << 20; ++i) {
    bytes += text(random_bits(1, i) % 100000, ' ');
  }
  return bytes;
}

std::string all_of(std::string_view bytes, Compression compression) {
  std::string result;
  const auto stream = decompressed(stream_of(bytes), compression, "file");
  for (auto piece = stream->next(); !piece.empty(); piece = stream->next()) {
    EXPECT_LE(piece.size(), std::size_t{1} << 20) << "nothing is held whole";
    result += piece;
  }
  EXPECT_TRUE(stream->next().empty()) << "the end stays the end";
  return result;
}

struct Format {
  const char* name;
  Compression compression;
  std::string (*compress)(std::string_view);
};

class ByteStreamTest : public ::testing::TestWithParam<Format> {
 protected:
  std::string compress(std::string_view bytes) const { return GetParam().compress(bytes); }
  std::string expand(std::string_view bytes) const { return all_of(bytes, GetParam().compression); }
  std::string error_after(std::string_view bytes) const {
    return error_of([&] { expand(bytes); });
  }
};

TEST_P(ByteStreamTest, GivesBackEveryByte) {
  for (const std::string& bytes : {std::string(), std::string("one\n"), large_text()}) {
    EXPECT_TRUE(expand(compress(bytes)) == bytes) << bytes.size();
  }
}

TEST_P(ByteStreamTest, PartsOneAfterAnotherAreOneStream) {
  EXPECT_EQ(expand(compress("one") + compress("") + compress("two") + compress("three")),
            "onetwothree");
}

TEST_P(ByteStreamTest, RefusesAnyShorterLengthAndNamesTheByte) {
  const std::string bytes = compress("one, two, three, four, five: a line of text\n");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    expect_mentions(error_after(std::string_view(bytes).substr(0, size)),
                    {"file", "cut short", text("at byte ", size)});
  }
  expect_mentions(error_after(bytes + bytes.substr(0, 15)),
                  {"cut short", text("byte ", bytes.size() + 15)});
}

TEST_P(ByteStreamTest, RefusesWhatIsNotCompressed) {
  const std::string bytes = compress("one");
  expect_mentions(error_after("plain text, and quite a lot of it"), {"file", "corrupt", "byte"});
  const std::string message = error_after(bytes + "plain text, and quite a lot of it");
  expect_mentions(message, {"file", "corrupt"});
  const std::size_t byte = std::stoul(message.substr(message.find("at byte ") + 8));
  EXPECT_GE(byte, bytes.size());
  EXPECT_LE(byte, bytes.size() + 4);
}

INSTANTIATE_TEST_SUITE_P(Formats,
                         ByteStreamTest,
                         ::testing::Values(Format{"gzip", Compression::kGzip, gzipped},
                                           Format{"zstd", Compression::kZstd, zstandard}),
                         [](const auto& format) { return format.param.name; });

TEST(ByteStream, PlainBytesComeInPiecesToo) {
  const std::string bytes = large_text();
  EXPECT_TRUE(all_of(bytes, Compression::kNone) == bytes);
  EXPECT_EQ(all_of("", Compression::kNone), "");
}

TEST(ByteStream, EveryAlteredByteOfGzipDataIsNoticedOrHarmless) {
  const std::string text = "one, two, three, four, five", bytes = gzipped(text);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string altered = bytes;
    altered[i] = static_cast<char>(altered[i] ^ 1);
    try {
      EXPECT_EQ(all_of(altered, Compression::kGzip), text) << i;  // e.g. the time in the header
    } catch (const Error& error) {
      expect_mentions(error.what(), {"file", "byte"});
    }
  }
}

TEST(ByteStream, TheNameSaysTheCompression) {
  EXPECT_EQ(compression_of("a/b.txt.gz"), Compression::kGzip);
  EXPECT_EQ(compression_of("b.jsonl.zst"), Compression::kZstd);
  EXPECT_EQ(compression_of("A.TXT.GZ"), Compression::kGzip);
  EXPECT_EQ(compression_of("gz"), Compression::kNone);
  EXPECT_EQ(compression_of("a.gz/b.txt"), Compression::kNone);
}

TEST(ByteStream, TheFirstBytesSayTheCompression) {
  EXPECT_EQ(compression_in(gzipped("a")), Compression::kGzip);
  EXPECT_EQ(compression_in(zstandard("a")), Compression::kZstd);
  EXPECT_EQ(compression_in("\x5A\x2A\x4D\x18"), Compression::kZstd) << "a skippable frame";
  EXPECT_EQ(compression_in("plain text"), Compression::kNone);
  EXPECT_EQ(compression_in(""), Compression::kNone);
}

}  // namespace
}  // namespace braid::testing
