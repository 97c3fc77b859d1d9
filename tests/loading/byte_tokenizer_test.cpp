#include "data/byte_tokenizer.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/file.h"
#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

TEST(ByteTokenizer, EveryByteSurvivesTheRoundTrip) {
  std::string bytes;
  for (int b = 0; b < 256; ++b) {
    bytes += static_cast<char>(b);
  }
  const ByteTokenizer tokenizer;
  const std::vector<int64_t> ids = tokenizer.encode(bytes);
  ASSERT_EQ(ids.size(), 256u);
  EXPECT_EQ(ids.front(), 3);
  EXPECT_EQ(ids.back(), 258);
  EXPECT_EQ(tokenizer.decode(ids), bytes);
}

TEST(ByteTokenizer, TextThatSpellsASpecialTokenStaysText) {
  const ByteTokenizer tokenizer;
  const std::string spelled = tokenizer.decode({0}, SpecialTokens::kSpell);
  EXPECT_EQ(spelled, "<｜begin▁of▁sentence｜>");
  for (const int64_t id : tokenizer.encode(spelled)) {
    EXPECT_EQ(tokenizer.byte_length(id), 1);
  }
}

TEST(ByteTokenizer, SpecialTokensAreDroppedOrSpelled) {
  const ByteTokenizer tokenizer;
  const std::vector<int64_t> ids = {0, 3 + 'h', 3 + 'i', 259, 260, 261, 262, 263, 264, 1, 2};
  EXPECT_EQ(tokenizer.decode(ids), "hi");
  EXPECT_EQ(tokenizer.decode(ids, SpecialTokens::kSpell),
            "<｜begin▁of▁sentence｜>hi<｜User｜><｜Assistant｜><think></"
            "think>｜DSML｜<｜latest_reminder｜>"
            "<｜end▁of▁sentence｜><｜▁pad▁｜>");
  EXPECT_EQ(tokenizer.decode({265, 266, 267, 268, 269, 270}, SpecialTokens::kSpell),
            "<｜action｜><｜query｜><｜authority｜><｜domain｜><｜title｜><｜read_url｜>");
  EXPECT_EQ(tokenizer.decode({271, 319}, SpecialTokens::kSpell),
            "<｜place▁holder▁no▁0｜><｜place▁holder▁no▁48｜>");
}

TEST(ByteTokenizer, ByteLengthsCountOnlyText) {
  const ByteTokenizer tokenizer;
  int64_t total = 0;
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    total += tokenizer.byte_length(id);
  }
  EXPECT_EQ(total, 256);
  EXPECT_EQ(tokenizer.byte_length(tokenizer.begin_id()), 0);
  EXPECT_EQ(tokenizer.byte_length(259), 0);
}

TEST(ByteTokenizer, RefusesIdsOutsideTheVocabulary) {
  const ByteTokenizer tokenizer;
  EXPECT_THROW(tokenizer.decode({320}), Error);
  EXPECT_THROW(tokenizer.decode({-1}), Error);
  EXPECT_THROW(tokenizer.byte_length(320), Error);
}

void expect_refused(const std::string& file, const std::vector<std::string>& parts) {
  try {
    make_tokenizer({.file = file});
    FAIL() << "expected a ConfigError";
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.key(), "tokenizer.file");
    expect_mentions(error.message(), parts);
  }
}

using TokenizerFile = CorpusTest;

TEST_F(TokenizerFile, IsBytesOrATokenizerJsonOrAFolderWithOne) {
  EXPECT_EQ(make_tokenizer({})->vocab_size(), 320);
  EXPECT_EQ(make_tokenizer({.file = "bytes"})->name(), "bytes");
  const auto file = write("model/tokenizer.json", byte_tokenizer_json()).string();
  EXPECT_EQ(make_tokenizer({.file = file})->name(),
            "bpe-" + xxh3_128(byte_tokenizer_json()).substr(0, 16));
  EXPECT_EQ(make_tokenizer({.file = folder_ / "model"})->name(),
            make_tokenizer({.file = file})->name());
}

TEST_F(TokenizerFile, IsNamedWithTheKeyWhereItCannotBeUsed) {
  expect_refused("byte", {"'byte'", "does not exist", "'bytes'", "tokenizer.json"});
  expect_refused(write("broken.json", "{}").string(), {"broken.json: model: is missing"});
  std::filesystem::create_directory(folder_ / "empty");
  expect_refused((folder_ / "empty").string(), {"empty/tokenizer.json"});
}

}  // namespace
}  // namespace braid::testing
