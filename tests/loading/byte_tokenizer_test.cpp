#include "data/byte_tokenizer.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace braid {
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

void expect_refused(const TokenizerConfig& config, const char* key, const char* part) {
  try {
    make_tokenizer(config);
    FAIL() << "expected a ConfigError";
  } catch (const ConfigError& error) {
    EXPECT_EQ(error.key(), key);
    EXPECT_NE(error.message().find(part), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("'bytes'"), std::string::npos) << error.message();
  }
}

TEST(Tokenizer, FactoryKnowsBytesAndNamesTheKeyOfAnythingElse) {
  EXPECT_EQ(make_tokenizer({})->vocab_size(), 320);
  EXPECT_EQ(make_tokenizer({.kind = "bytes"})->name(), "bytes");
  expect_refused({.kind = "byte"}, "tokenizer.kind", "'byte'");
  expect_refused({.path = "v4/tokenizer.json"}, "tokenizer.path", "'v4/tokenizer.json'");
}

}  // namespace
}  // namespace braid
