#include "inference/generated_text.h"

#include <gtest/gtest.h>

#include "tests/loading/corpus.h"

namespace braid {
namespace {

/// What add() returns for each piece, then what finish() does.
std::vector<std::string> shown(const std::vector<std::string>& stop_texts,
                               const std::vector<std::string>& pieces) {
  GeneratedText text(stop_texts);
  std::vector<std::string> result;
  for (const auto& piece : pieces) {
    result.push_back(text.add(piece));
  }
  result.push_back(text.finish());
  return result;
}

std::string whole(const std::vector<std::string>& stop_texts,
                  const std::vector<std::string>& pieces) {
  std::string result;
  for (const auto& part : shown(stop_texts, pieces)) {
    result += part;
  }
  return result;
}

std::vector<std::string> bytes_of(const std::string& text) {
  std::vector<std::string> bytes;
  for (const char byte : text) {
    bytes.emplace_back(1, byte);
  }
  return bytes;
}

using Strings = std::vector<std::string>;

TEST(GeneratedText, WithoutStopTextsShowsEverythingAtOnce) {
  EXPECT_EQ(shown({}, {"one ", "two", ""}), Strings({"one ", "two", "", ""}));
}

TEST(GeneratedText, EndsBeforeAStopTextWhereverTokensCutIt) {
  for (const auto& pieces : {Strings{"some text. More"},
                             Strings{"some te", "xt. M", "ore"},
                             bytes_of("some text. More")}) {
    EXPECT_EQ(whole({". "}, pieces), "some text");
  }
}

TEST(GeneratedText, HoldsBackWhatMayBecomeAStopText) {
  EXPECT_EQ(shown({"END"}, {"aE", "N", "x", "EN", "E", "ND", "more"}),
            Strings({"a", "", "ENx", "", "EN", "", "", ""}));
  EXPECT_EQ(shown({"END"}, {"aE"}), Strings({"a", "E"}));  // it was none
}

TEST(GeneratedText, TellsWhenAStopTextWasMet) {
  GeneratedText text({"ab"});
  text.add("xa");
  EXPECT_FALSE(text.stopped());
  text.add("bx");
  EXPECT_TRUE(text.stopped());
  EXPECT_EQ(text.finish(), "");
}

TEST(GeneratedText, FindsAStopTextThatBeginsWithinAnAttemptThatFailed) {
  EXPECT_EQ(whole({"aab"}, bytes_of("xaaab")), "xa");
  EXPECT_EQ(whole({"abac"}, bytes_of("ababac")), "ab");
}

TEST(GeneratedText, OfSeveralStopTextsTheFirstToBecomeWholeWinsAndOfThoseTheLongest) {
  EXPECT_EQ(whole({"def", "c"}, {"abcdef"}), "ab");
  EXPECT_EQ(whole({"bcd", "c"}, {"abcdef"}), "ab");
  EXPECT_EQ(whole({"c", "bc"}, {"abcdef"}), "a");
}

TEST(GeneratedText, NeverShowsHalfACharacter) {
  // One, two, three and four bytes long.
  const std::string characters = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
  Strings want = {"a", "", "\xC3\xA9", "", "", "\xE2\x82\xAC", "", "", "", "\xF0\x9F\x98\x80", ""};
  EXPECT_EQ(shown({}, bytes_of(characters)), want);
  EXPECT_EQ(shown({"\xE2\x82\xAC"}, bytes_of(characters)),
            Strings({"a", "", "\xC3\xA9", "", "", "", "", "", "", "", ""}));
}

TEST(GeneratedText, ReplacesBytesThatAreNoCharacter) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(whole({}, bytes_of("a\x80z\xC3z\xFFz")), "a" + bad + "z" + bad + "z" + bad + "z");
  EXPECT_EQ(whole({}, {"\xE2\x82"}), bad);                            // cut off at the end
  EXPECT_EQ(whole({}, {"\xED\xA0\x80"}), bad + bad + bad);            // a surrogate
  EXPECT_EQ(whole({}, {"\xC0\xAF"}), bad + bad);                      // an overlong form
  EXPECT_EQ(whole({}, {"\xF4\x90\x80\x80"}), bad + bad + bad + bad);  // beyond U+10FFFF
}

TEST(GeneratedText, RefusesAnEmptyStopText) {
  testing::expect_mentions(testing::error_of([] { GeneratedText({"a", ""}); }), {"empty"});
}

}  // namespace
}  // namespace braid
