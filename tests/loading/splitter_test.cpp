#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "data/pattern_rewrite.h"
#include "data/pattern_splitter.h"
#include "data/unicode_classes.h"
#include "data/v4_splitter.h"
#include "tests/loading/corpus.h"
#include "tests/loading/v4_file.h"

namespace braid::testing {
namespace {

using nlohmann::json;
using Pieces = std::vector<std::string>;

Pieces pieces_of(const std::string& text, const Splitter& splitter) {
  struct Collector : PieceSink {
    void take(std::string_view piece) override { pieces.emplace_back(piece); }
    Pieces pieces;
  } collector;
  splitter.split(text, collector);
  return collector.pieces;
}

PatternSplitter splitter_of(const std::vector<std::string>& regexes) {
  std::vector<PatternSplitter::Pattern> patterns;
  for (const std::string& regex : regexes) {
    patterns.push_back({regex, "pattern"});
  }
  return PatternSplitter(patterns);
}

// As the regex engine of the published tokenizer sees them.
TEST(UnicodeClasses, AreThoseOfUnicode16) {
  const auto file = std::filesystem::path(BRAID_TEST_DATA) / "tokenizer/unicode_classes.json";
  const json ranges = json::parse(read_file(file))["ranges_inclusive"];
  std::vector<UnicodeClass> expected(0x110000);
  for (const auto& [name, of_class] : {std::pair{"\\p{L}", UnicodeClass::kLetter},
                                       std::pair{"\\p{M}", UnicodeClass::kMark},
                                       std::pair{"\\p{N}", UnicodeClass::kNumber},
                                       std::pair{"\\p{P}", UnicodeClass::kPunctuation},
                                       std::pair{"\\p{S}", UnicodeClass::kSymbol},
                                       std::pair{"\\s", UnicodeClass::kSpace}}) {
    for (const json& range : ranges.at(name)) {
      for (std::size_t c = range[0]; c <= range[1].get<std::size_t>(); ++c) {
        expected[c] = of_class;
      }
    }
  }
  for (std::size_t c = 0; c < expected.size(); ++c) {
    ASSERT_EQ(unicode_classes()[c], expected[c]) << std::hex << c;
  }
}

// Two independent ways; the few characters younger than PCRE2's tables are left out.
TEST(V4Splitter, CutsAsItsPatternsDo) {
  const V4Splitter by_hand;
  const auto by_engine = splitter_of({V4Splitter::kPatterns.begin(), V4Splitter::kPatterns.end()});
  int compared = 0;
  std::string all;
  for (const json& row : rows_of("tokenizer/v4_ids.jsonl")) {
    if (row["tag"] != "unicode_version") {
      const std::string text = row["text"];
      EXPECT_EQ(pieces_of(text, by_hand), pieces_of(text, by_engine)) << row["text"];
      all += text;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 390);
  EXPECT_EQ(pieces_of(all, by_hand), pieces_of(all, by_engine));
}

TEST(V4Splitter, CutsEveryMixOfClassesAsItsPatternsDo) {
  const V4Splitter by_hand;
  const auto by_engine = splitter_of({V4Splitter::kPatterns.begin(), V4Splitter::kPatterns.end()});
  const std::vector<std::string> characters = {"a",
                                               "é",
                                               "\u0301",
                                               "7",
                                               "²",
                                               ".",
                                               "$",
                                               " ",
                                               "\t",
                                               "\n",
                                               "\r",
                                               "\u00A0",
                                               "\u3000",
                                               "中",
                                               "ー",
                                               "。",
                                               "\x01",
                                               "\u180E",
                                               "😀"};
  uint64_t state = 1;
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (int length = 1 + i % 12; length > 0; --length) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      text += characters[(state >> 33) % characters.size()];
    }
    ASSERT_EQ(pieces_of(text, by_hand), pieces_of(text, by_engine)) << json(text);
  }
}

TEST(V4Splitter, CutsByTheRulesOfThePattern) {
  const V4Splitter splitter;
  EXPECT_EQ(pieces_of("", splitter), Pieces());
  EXPECT_EQ(pieces_of("12345", splitter), (Pieces{"123", "45"}));
  EXPECT_EQ(pieces_of("a  1", splitter), (Pieces{"a", "  ", "1"}));
  EXPECT_EQ(pieces_of("a  b", splitter), (Pieces{"a", " ", " b"}));
  EXPECT_EQ(pieces_of("it's x.com .\n\n x", splitter),
            (Pieces{"it", "'s", " x", ".com", " .\n\n", " x"}));
  EXPECT_EQ(pieces_of("日本語です。", splitter), (Pieces{"日本語です", "。"}));
}

TEST(PatternSplitter, CutsIntoMatchesAndWhatIsBetween) {
  EXPECT_EQ(pieces_of("a1b22", splitter_of({"[0-9]+"})), (Pieces{"a", "1", "b", "22"}));
  EXPECT_EQ(pieces_of("ab", splitter_of({"x*"})), (Pieces{"ab"}));  // empty matches cut nothing
  EXPECT_EQ(pieces_of("a1 b", splitter_of({"[0-9]", "\\s+(?!\\S)|\\s+"})),
            (Pieces{"a", "1", " ", "b"}));
  const std::string llama =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
      "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  EXPECT_EQ(pieces_of("I'LL pay  1234!\n", splitter_of({llama})),
            (Pieces{"I", "'LL", " pay", " ", " ", "123", "4", "!\n"}));
}

TEST(PatternSplitter, WhiteSpaceIsThatOfTheOtherEngine) {
  EXPECT_EQ(pieces_of("a\u180Eb\u0085c", splitter_of({"\\s"})),
            (Pieces{"a\u180Eb", "\u0085", "c"}));
  EXPECT_EQ(pieces_of("\u180E \u00A0", splitter_of({"\\S+"})), (Pieces{"\u180E", " \u00A0"}));
  EXPECT_EQ(pieces_of("a\u180E ", splitter_of({"[^\\s]+"})), (Pieces{"a\u180E", " "}));
}

TEST(PatternSplitter, NamesWhatItDoesNotSupport) {
  for (const auto& [pattern, construct] :
       std::vector<std::pair<const char*, const char*>>{{"\\w+", "\\w"},
                                                        {"a\\b", "\\b"},
                                                        {"\\h", "\\h"},
                                                        {"^a", "anchor ^"},
                                                        {"a$", "anchor $"},
                                                        {"[a-z&&[^b]]", "intersection"},
                                                        {"[[:alpha:]]", "class in a class"},
                                                        {"[]a]", "unescaped ]"},
                                                        {"\\p{^L}", "property \\p{^L}"},
                                                        {"\\pL", "property without"},
                                                        {"a{1,3}+", "repetition followed by +"},
                                                        {"a{,3}", "repetition"},
                                                        {"(?<name>a)", "group (?<"},
                                                        {"(?i)a", "group (?i"},
                                                        {"[a", "class without an end"},
                                                        {"a\\", "backslash"}}) {
    expect_mentions(error_of([&pattern = pattern] { splitter_of({pattern}); }),
                    {"pattern: ", construct});
  }
}

}  // namespace
}  // namespace braid::testing
