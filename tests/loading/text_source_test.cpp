#include "data/text_source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

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

std::vector<std::string> notes_of(const TextSource& source) {
  TextReader reader(source);
  while (reader.next()) {
  }
  return reader.notes();
}

TEST_F(TextSourceTest, SuffixesCountInAnyCaseAndNdjsonIsJsonl) {
  write("in/A.TXT", "one");
  write("in/b.Jsonl", R"({"text": "two"})");
  write("in/c.ndjson", R"({"text": "three"})");
  write("in/d.TXT.GZ", gzipped("four"));
  EXPECT_EQ(documents_of({{folder_ / "in"}}), (Strings{"one", "two", "three", "four"}));
}

TEST_F(TextSourceTest, CompressionGoesByTheFirstBytes) {
  EXPECT_EQ(documents_of({{write("a.txt", gzipped("one"))}}), Strings{"one"});
  EXPECT_EQ(documents_of({{write("b.jsonl", zstandard(R"({"text": "two"})"))}}), Strings{"two"});
  EXPECT_EQ(documents_of({{write("c.txt.gz", zstandard("three"))}}), Strings{"three"});
  expect_mentions(error_of([&] { documents_of({{write("d.txt.gz", "plain text")}}); }),
                  {"d.txt.gz", "is called *.gz", "does not begin as such a file does"});
  expect_mentions(error_of([&] { documents_of({{write("e.txt.gz", gzipped("PAR1 ..."))}}); }),
                  {"e.txt.gz", "Parquet"});
}

TEST_F(TextSourceTest, ContainersAndTablesAreRefusedByName) {
  expect_mentions(error_of([&] { documents_of({{write("a.txt", "PAR1....")}}); }),
                  {"a.txt", "Parquet"});
  expect_mentions(error_of([&] { documents_of({{write("b.jsonl", "[{\"text\": \"one\"}]")}}); }),
                  {"b.jsonl", "JSON array", "jq"});
  expect_mentions(error_of([&] { documents_of({{write("c.csv", "id,text\n1,hello\n")}}); }),
                  {"c.csv", "a table", "scripts/to_jsonl.py"});
  expect_mentions(error_of([&] { documents_of({{write("d.TSV.gz", gzipped("a\tb\n"))}}); }),
                  {"d.TSV.gz", "a table", "scripts/to_jsonl.py"});
}

TEST_F(TextSourceTest, AByteOrderMarkIsNoText) {
  const std::string mark = "\xEF\xBB\xBF";
  EXPECT_EQ(documents_of({{write("a.txt", mark + "%\none\n%\ntwo")}, "%"}),
            (Strings{"one\n", "two"}));
  EXPECT_EQ(documents_of({{write("b.jsonl.gz", gzipped(mark + R"({"text": "one"})"))}}),
            Strings{"one"});
  EXPECT_NE(format_name(write("c.txt", mark + "one")), format_name(write("d.txt", "one")));
}

TEST_F(TextSourceTest, NotesWhatIsNotUtf8) {
  EXPECT_TRUE(notes_of({{write("a.txt", "caf\xC3\xA9")}}).empty());
  const auto notes = notes_of({{write("b.txt", "one\ncaf\xE9")}, "%"});
  ASSERT_EQ(notes.size(), 1u);
  expect_mentions(notes[0], {"b.txt:2: is not UTF-8"});
}

TEST_F(TextSourceTest, SkippedLinesAreNotedFileByFile) {
  const auto a = write("a.jsonl", "{}\n{\"text\": \"one\"}\n"), b = write("b.jsonl", "7\n");
  const TextSource source{.paths = {a, b}, .on_bad_line = OnBadLine::kSkip};
  EXPECT_EQ(documents_of(source), Strings{"one"});
  const auto notes = notes_of(source);
  ASSERT_EQ(notes.size(), 2u);
  expect_mentions(notes[0], {"a.jsonl: left out 1 of 2 lines: line 1 has no key 'text'"});
  expect_mentions(notes[1], {"b.jsonl: left out 1 of 1 line: line 1 is a number"});
}

TEST_F(TextSourceTest, OfFoldersWhatIsLeftOutIsNamed) {
  write("in/a.txt", "a");
  write("in/.hidden.txt", "hidden");
  write("in/.ipynb_checkpoints/a.txt", "a");
  write("in/._a.txt", "Mac");
  write("in/b/notes.md", "not text");
  write("in/b/table.csv", "not text");
  write("in/b/more.md", "not text");
  write("in/LICENSE", "not text");
  const auto [files, notes] = text_files(folder_ / "in");
  EXPECT_EQ(files, std::vector{folder_ / "in/a.txt"});
  ASSERT_EQ(notes.size(), 2u);
  expect_mentions(notes[0], {"passed over what is hidden (3): ._a.txt, .hidden.txt, .ipynb_ch"});
  expect_mentions(notes[1], {"left out what is not called", "1 *.csv, 2 *.md, 1 without a suffix"});
}

TEST_F(TextSourceTest, LinksAreFollowedOnceAndLoopsEnd) {
  namespace fs = std::filesystem;
  write("other/b.txt", "b");
  write("in/a.txt", "a");
  fs::create_directory_symlink(folder_ / "other", folder_ / "in/linked");
  fs::create_directory_symlink("..", folder_ / "other/up");  // to what holds "in" and "other"
  fs::create_directory_symlink(".", folder_ / "in/self");
  fs::create_symlink(folder_ / "other/b.txt", folder_ / "in/c.txt");
  const auto [files, notes] = text_files(folder_ / "in");
  EXPECT_EQ(files,
            (std::vector{folder_ / "in/a.txt", folder_ / "in/c.txt", folder_ / "in/linked/b.txt"}));
  ASSERT_EQ(notes.size(), 2u);
  expect_mentions(notes[0], {"read through links to folders (2): linked, linked/up"});
  expect_mentions(notes[1], {"read folders once that can be reached in several ways (3): "});
}

TEST_F(TextSourceTest, DanglingLinksAndFifosAreErrors) {
  namespace fs = std::filesystem;
  write("in/a.txt", "a");
  fs::create_symlink("nowhere", folder_ / "in/notes.md");
  EXPECT_EQ(text_files(folder_ / "in").files.size(), 1u) << "would not be read in any case";
  fs::create_symlink("nowhere.txt", folder_ / "in/gone.txt");
  for (const char* path : {"in", "in/gone.txt"}) {
    expect_mentions(error_of([&] { text_files(folder_ / path); }),
                    {"in/gone.txt", "link to nowhere.txt, which is not there"});
  }
  fs::remove(folder_ / "in/gone.txt");
  ASSERT_EQ(::mkfifo((folder_ / "in/pipe.txt").c_str(), 0600), 0);
  for (const char* path : {"in", "in/pipe.txt"}) {
    expect_mentions(error_of([&] { text_files(folder_ / path); }),
                    {"in/pipe.txt", "is a FIFO, not a file"});
  }
  expect_mentions(error_of([&] { format_name(folder_ / "in/pipe.txt"); }), {"is not a file"});
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
