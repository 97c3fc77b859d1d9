#include "data/repeated_texts.h"

#include <gtest/gtest.h>

#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

using Side = RepeatedTexts::Side;

class RepeatedTextsTest : public CorpusTest {
 protected:
  std::vector<std::string> notes(const Corpus& corpus) const {
    return build_token_stores(corpus, tokenizer_, files()).notes;
  }
};

TEST_F(RepeatedTextsTest, NothingIsSaidOfTextsThatDiffer) {
  const TextSource training{.paths = {write("a.txt", "one\n%\ntwo")}, .document_separator = "%"},
      validation{.paths = {write("v.txt", "three\n%\nthree")}, .document_separator = "%"};
  EXPECT_TRUE(notes({.training = {training}, .validation = {validation}}).empty());
}

TEST_F(RepeatedTextsTest, FilesOfEqualContentsAreNamed) {
  const auto a = write("a.txt", "one"), b = write("b.txt", "one"), v = write("v.txt", "one");
  const auto found =
      notes({.training = {TextSource{.paths = {a, b}}}, .validation = {TextSource{.paths = {v}}}});
  ASSERT_EQ(found.size(), 4u);
  expect_mentions(found[0], {"b.txt holds the same text as ", "a.txt, which counts it twice"});
  expect_mentions(found[1], {"v.txt holds the same text as ", "a.txt; ", "to validate"});
  EXPECT_EQ(found[2], "1 of 2 documents are the same as another one");
  EXPECT_EQ(found[3], "1 of 1 validation documents are training documents, too");
}

TEST_F(RepeatedTextsTest, DocumentsAreCountedAcrossFilesAndFormats) {
  const TextSource training{
      .paths = {write("a.txt", "one\n%\ntwo\n%\none"), write("b.jsonl", "{\"text\": \"two\\n\"}")},
      .document_separator = "%"},
      validation{.paths = {write("v.txt", "two\n%\nthree\n%\n")}, .document_separator = "%"};
  const auto found = notes({.training = {training}, .validation = {validation}});
  EXPECT_EQ(found,
            (std::vector<std::string>{"1 of 4 documents are the same as another one",
                                      "1 of 2 validation documents are training documents, too"}));
}

TEST_F(RepeatedTextsTest, ASplitByContentSharesNothing) {
  std::string contents;
  for (int i = 0; i < 400; ++i) {
    contents += text("document number ", i % 200, "\n%\n");
  }
  const auto found = notes(
      {.training = {TextSource{.paths = {write("a.txt", contents)}, .document_separator = "%"}},
       .validation = {},
       .validation_fraction = 0.1});
  ASSERT_EQ(found.size(), 1u);
  expect_mentions(found[0], {"documents are the same as another one"});
}

TEST(RepeatedTexts, OfManyFilesAFewAreNamed) {
  RepeatedTexts repeated;
  for (int i = 0; i < 10; ++i) {
    repeated.add_file(Side::kTraining, text(i, ".txt"), "same");
  }
  const auto found = repeated.notes();
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(found[3], "... and 6 more files hold the same text as another");
}

}  // namespace
}  // namespace braid::testing
