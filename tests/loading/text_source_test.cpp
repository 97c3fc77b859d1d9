#include "data/text_source.h"

#include <gtest/gtest.h>

#include "tests/loading/compress.h"
#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

using TextSourceTest = CorpusTest;

std::vector<std::string> documents_of(const TextSource& source) {
  std::vector<std::string> documents;
  TextReader reader(source);
  while (const auto document = reader.next()) {
    documents.emplace_back(*document);
  }
  return documents;
}

using Strings = std::vector<std::string>;

TEST_F(TextSourceTest, AFileIsOneDocumentByteForByte) {
  const std::string contents("a\0%\r\n\xff\n%\n", 10);
  EXPECT_EQ(documents_of({{write("a.md", contents)}, ""}), Strings{contents});
}

TEST_F(TextSourceTest, SeparatorLinesSeparateDocumentsAndBelongToNone) {
  const auto file = write("a.txt", "%\none\ntwo\n%\n%\n \n\t\n%\nthree % %\n%%\n %\n%\nlast");
  EXPECT_EQ(documents_of({{file}, "%"}), (Strings{"one\ntwo\n", "three % %\n%%\n %\n", "last"}));
}

TEST_F(TextSourceTest, SeparatorLinesMayEndInCarriageReturns) {
  EXPECT_EQ(documents_of({{write("a.txt", "one\r\n%\r\ntwo\r\n%")}, "%"}),
            (Strings{"one\r\n", "two\r\n"}));
}

TEST_F(TextSourceTest, FoldersAreReadRecursivelyInPathOrder) {
  write("in/b.txt", "b");
  write("in/a.txt", "a");
  write("in/a/z.txt", "z");
  write("in/notes.md", "not text");
  EXPECT_EQ(documents_of({{folder_ / "in"}, ""}), (Strings{"z", "a", "b"}));
}

TEST_F(TextSourceTest, TheNameTellsTheFormat) {
  write("in/a.txt", "one\n%\ntwo");
  write("in/b.jsonl", "{\"text\": \"three\\n%\\n\"}\n{\"text\": \" \"}\n");
  write("in/c.txt.gz", gzipped("four\n%\nfi") + gzipped("ve"));
  write("in/d/e.jsonl.zst",
        zstandard("{\"text\": \"six\"}\n{\"text\": ") + zstandard("\"seven\"}"));
  write("in/f.jsonl.gz", gzipped("{\"text\": \"eight\"}"));
  write("in/g.txt.zst", zstandard("nine"));
  write("in/h.md.gz", "not text");
  EXPECT_EQ(
      documents_of({{folder_ / "in"}, "%"}),
      (Strings{"one\n", "two", "three\n%\n", "four\n", "five", "six", "seven", "eight", "nine"}));
  EXPECT_EQ(documents_of({{write("other.md.gz", gzipped("a\n%\nb"))}}), Strings{"a\n%\nb"});
}

TEST_F(TextSourceTest, ErrorsInCompressedTextNameTheFile) {
  const auto cut = write("a.txt.gz", gzipped("a text").substr(0, 15));
  expect_mentions(error_of([&] { documents_of({{cut}}); }), {"a.txt.gz", "cut short", "byte 15"});
  const auto bad = write("b.jsonl.zst", zstandard("{\"text\": \"one\"}\n{}\n"));
  expect_mentions(error_of([&] { documents_of({{bad}}); }), {"b.jsonl.zst:2:", "no key 'text'"});
}

TEST_F(TextSourceTest, BlankDocumentsAreLeftOut) {
  EXPECT_TRUE(
      documents_of({{write("empty.txt", ""), write("blank.txt", " \n\t\r\n")}, ""}).empty());
}

TEST_F(TextSourceTest, NamesMissingPathsAndFoldersWithoutText) {
  expect_mentions(error_of([&] { text_files(folder_ / "absent.txt"); }),
                  {"absent.txt", "no such file"});
  write("in/notes.md", "not text");
  expect_mentions(error_of([&] { text_files(folder_ / "in"); }), {"/in", "*.txt", "*.jsonl"});
}

TEST_F(TextSourceTest, NamesUnreadableFiles) {
  if (::geteuid() == 0) {
    GTEST_SKIP() << "root reads everything";
  }
  const auto file = write("secret.txt", "text");
  std::filesystem::permissions(file, std::filesystem::perms::none);
  expect_mentions(error_of([&] {
                    documents_of({{file}, ""});
                  }),
                  {"secret.txt", "Permission denied"});
}

TEST_F(TextSourceTest, RefusesASeparatorOfSeveralLines) {
  expect_mentions(error_of([&] { documents_of({{write("a.txt", "a")}, "%\n%"}); }), {"separator"});
}

TEST(ValidationSplit, DependsOnTheDocumentAloneAndGrowsWithTheFraction) {
  int small = 0, large = 0;
  for (int i = 0; i < 10000; ++i) {
    const uint64_t hash = content_hash(text("document ", i));
    const bool in_small = is_validation_document(hash, 0.02),
               in_large = is_validation_document(hash, 0.1);
    small += in_small;
    large += in_large;
    EXPECT_TRUE(!in_small || in_large);
    EXPECT_FALSE(is_validation_document(hash, 0));
    EXPECT_TRUE(is_validation_document(hash, 1));
  }
  EXPECT_NEAR(small, 200, 60);  // four standard deviations
  EXPECT_NEAR(large, 1000, 120);
}

}  // namespace
}  // namespace braid::testing
