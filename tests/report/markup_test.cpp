#include "report/markup.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "report/json_text.h"
#include "tests/report/well_formed.h"

namespace braid {
namespace {

TEST(Markup, EscapesWhatWouldBeMarkup) {
  EXPECT_EQ(escaped("a <b> & \"c\""), "a &lt;b&gt; &amp; &quot;c&quot;");
  EXPECT_EQ(Markup().leaf("p", {{"class", "\"<&"}}, "</p>").take(),
            "<p class=\"&quot;&lt;&amp;\">&lt;/p&gt;</p>");
}

TEST(Markup, KeepsUtf8AndReplacesWhatIsNone) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(escaped("\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80"),
            "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80");
  EXPECT_EQ(escaped("a\xFFz"), "a" + bad + "z");
  EXPECT_EQ(escaped("\xC3"), bad);
  EXPECT_EQ(escaped("\xED\xA0\x80"), bad + bad + bad);  // a surrogate
  EXPECT_EQ(escaped("\xEF\xBF\xBE"), bad + bad + bad);  // U+FFFE, which XML has no place for
}

TEST(Markup, ShowsControlCharactersAsPictures) {
  EXPECT_EQ(escaped("a\x01\tb\n"), "a\xE2\x90\x81\tb\n");
  EXPECT_EQ(escaped(std::string("\0", 1)), "\xE2\x90\x80");
  EXPECT_EQ(escaped("\x7F"), "\xE2\x90\xA1");
}

TEST(Markup, EndsWithEveryElementClosed) {
  Markup markup;
  markup.open("div").open("p").text("x");
  EXPECT_THROW(markup.take(), Error);
  EXPECT_EQ(markup.close().close().take(), "<div><p>x</p></div>");
  EXPECT_THROW(Markup().close(), Error);
}

TEST(Markup, VoidElementsHaveNoEndTag) {
  EXPECT_EQ(Markup().leaf("meta", {{"charset", "utf-8"}}).take(), "<meta charset=\"utf-8\"/>");
  EXPECT_EQ(Markup().leaf("p", {}).take(), "<p></p>");
}

TEST(JsonText, EndsNoScriptElement) {
  EXPECT_EQ(json_string("</script>&"), "\"\\u003c/script\\u003e\\u0026\"");
  EXPECT_EQ(json_string("\xFF\n"), "\"\\ufffd\\n\"");
}

TEST(JsonText, NumbersAreShortAndNullWhereTheyAreNone) {
  EXPECT_EQ(json_numbers({1234570, 0.123456789, -2, -0.0, std::stod("nan"), std::stod("inf")}),
            "[1234570,0.123457,-2,0,null,null]");
  EXPECT_EQ(json_numbers({}), "[]");
}

TEST(WellFormed, FindsWhatIsWrong) {
  using testing::problem_of_xml;
  EXPECT_EQ(problem_of_xml("<!DOCTYPE html>\n<a x=\"1\"><b/>t &amp; u<![CDATA[ <&> ]]></a>\n"), "");
  for (const char* wrong : {"<a>",
                            "<a></b>",
                            "<a/><b/>",
                            "<a x=1/>",
                            "<a x=\"1\" x=\"2\"/>",
                            "<a>&nbsp;</a>",
                            "<a>a & b</a>",
                            "<a x=\"<\"/>",
                            "<a>\x01</a>",
                            "<a><b id=\"i\"/><c id=\"i\"/></a>",
                            "text"}) {
    EXPECT_NE(problem_of_xml(wrong), "") << wrong;
  }
}

}  // namespace
}  // namespace braid
