// Files that are no text: refused by their first bytes, with what they are and how to convert them.
#include <sys/stat.h>

#include "tests/commands/cli_test.h"
#include "tests/loading/compress.h"

namespace braid {
namespace {

using testing::expect_error;
using testing::expect_mentions;
using std::string_literals::operator""s;

class Containers : public testing::CliTest {
 protected:
  /// A run of one step on this file.
  testing::Outcome train_on(const std::string& file,
                            const std::vector<std::string>& more = {}) const {
    return braid(one_step_on(file, more));
  }
};

std::string wide(const std::string& text) {
  std::string result;
  for (const char c : text) {
    result += c;
    result += '\0';
  }
  return result;
}

const std::string kText = "A text that is long enough to learn a little from it.\n";

TEST_F(Containers, DoNotTrainAsText) {
  struct Case {
    const char* name;
    std::string bytes;
    std::vector<std::string> parts;
  };
  for (const auto& [name, bytes, parts] :
       {Case{"d.parquet", "PAR1\x15\x04\x15\x10"s, {"a Parquet file", "scripts/to_jsonl.py"}},
        Case{"d.json", "[{\"text\": \"one\"}, {\"text\": \"two\"}]\n", {"a JSON array", "jq"}},
        Case{"d.jsonl.xz", "\xFD\x37zXZ\0\0\x04"s, {"compressed with xz", "xz -d"}},
        Case{"d.jsonl.bz2", "BZh91AY&SY\x01\x02", {"compressed with bzip2", "bzip2 -d"}},
        Case{"d.zip", "PK\x03\x04\x14\0"s, {"a zip archive", "unpack"}},
        Case{"d.csv", "id,text\n1,hello\n", {"a table", "scripts/to_jsonl.py"}},
        Case{"u16.txt", "\xFF\xFE" + wide(kText), {"UTF-16", "iconv"}},
        Case{"lfs.txt",
             "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
             {"Git LFS pointer", "git lfs pull"}}}) {
    write(name, bytes);
    auto all = parts;
    all.insert(all.begin(), name);
    expect_error(train_on(name), all);
  }
}

TEST_F(Containers, GzipWithoutItsSuffixAndNdjsonAreRead) {
  write("d.txt", testing::gzipped(kText + kText));
  const auto gzip = train_on("d.txt");
  EXPECT_EQ(gzip.status, 0) << gzip.err;
  expect_mentions(gzip.out, {"d.txt: 1 documents, 108 tokens"});
  write("d.ndjson", "{\"text\": \"" + std::string(40, 'a') + "\", \"score\": NaN}\n");
  const auto lines = train_on("d.ndjson");
  EXPECT_EQ(lines.status, 0) << lines.err;
  expect_mentions(lines.out, {"d.ndjson: 1 documents, 40 tokens"});
}

TEST_F(Containers, AreNoTextToEvaluateNorPrompts) {
  train_run();
  write("w.txt", wide(kText));
  write("d.parquet", "PAR1....");
  expect_error(braid({"evaluate", "runs/run", "--data", "w.txt"}),
               {"w.txt", "UTF-16LE", "every second byte is 0"});
  expect_error(braid({"generate", "runs/run", "--prompts-file", "d.parquet"}),
               {"d.parquet", "a Parquet file"});
}

TEST_F(Containers, FifosAreRefusedAndDoNotHang) {
  ASSERT_EQ(::mkfifo((folder_ / "pipe.txt").c_str(), 0600), 0);
  expect_error(train_on("pipe.txt"), {"pipe.txt", "is a FIFO, not a file"});
}

TEST_F(Containers, AByteOrderMarkIsNoPartOfTextsAndPrompts) {
  train_run();
  write("bom.txt", "\xEF\xBB\xBF%\n" + kText + "%\n" + kText + "second\n");
  const auto trained = train_on("bom.txt", {"--set", "data.document_separator=\"%\""});
  EXPECT_EQ(trained.status, 0) << trained.err;
  expect_mentions(trained.out, {"bom.txt: 2 documents, 115 tokens"});
  write("prompts.txt", "\xEF\xBB\xBFOne\nTwo\n\n");
  const auto generated = braid(
      {"generate", "runs/run", "--prompts-file", "prompts.txt", "--max-tokens", "1", "--json"});
  EXPECT_EQ(generated.status, 0) << generated.err;
  EXPECT_EQ(std::count(generated.out.begin(), generated.out.end(), '\n'), 2) << generated.out;
  expect_mentions(generated.out, {"\"prompt\":\"One\"", "\"prompt\":\"Two\""});
}

TEST_F(Containers, BytesThatAreNoUtf8TrainWithANote) {
  write("latin1.txt", "one line\nanother caf\xE9\n" + kText);
  const auto trained = train_on("latin1.txt");
  EXPECT_EQ(trained.status, 0) << trained.err;
  expect_mentions(trained.out, {"note: ", "latin1.txt:2: is not UTF-8 (byte 20 ", "iconv"});
}

}  // namespace
}  // namespace braid
