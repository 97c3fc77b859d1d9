#include "data/token_store_build.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/token_store.h"
#include "tests/loading/corpus.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace braid::testing {
namespace {

class BuildTest : public CorpusTest {
 protected:
  /// 400 documents, separated by "%", of which a tenth is for validation.
  Corpus corpus() const {
    std::string contents;
    for (int i = 0; i < 400; ++i) {
      contents += text("document number ", i, "\n%\n");
    }
    return {{{{write("in/all.txt", contents)}, "%"}}, {}, 0.1};
  }
  static std::vector<std::string> documents_in(const std::filesystem::path& text) {
    std::vector<std::string> documents;
    TextReader reader({.paths = {text}});
    while (const auto document = reader.next()) {
      documents.emplace_back(*document);
    }
    return documents;
  }
  bool build(const Corpus& corpus) const {
    return build_token_stores(corpus, tokenizer_, files()).rebuilt;
  }
};

TEST_F(BuildTest, EveryDocumentIsOnTheSideItsContentSays) {
  const Corpus all = corpus();
  EXPECT_TRUE(build(all));
  std::vector<std::string> validation;
  int64_t bytes = 0;
  TextReader reader(all.training[0]);
  while (const auto document = reader.next()) {
    if (is_validation_document(content_hash(*document), 0.1)) {
      validation.emplace_back(*document);
      bytes += static_cast<int64_t>(document->size());
    }
  }
  EXPECT_EQ(documents_in(files().validation[0].text), validation);
  const TokenStore store(files().validation[0].store);
  const auto found = static_cast<int64_t>(validation.size());
  EXPECT_EQ(store.num_documents(), found);
  EXPECT_EQ(store.text_bytes(), bytes);
  EXPECT_EQ(TokenStore(training_store()).num_documents(), 400 - found);
}

TEST_F(BuildTest, BuildsAgainOnlyWhenTextOrOptionsChange) {
  Corpus all = corpus();
  EXPECT_TRUE(build(all));
  EXPECT_FALSE(build(all));
  all.validation_fraction = 0.2;
  EXPECT_TRUE(build(all));
  EXPECT_FALSE(build(all));
  all.training[0].document_separator = "";
  all.validation_fraction = 0;
  EXPECT_TRUE(build(all));
  EXPECT_FALSE(build(all));
  write("in/all.txt", "other text");
  EXPECT_TRUE(build(all));
}

TEST_F(BuildTest, ReplacesDamagedStoresAndTexts) {
  const Corpus all = corpus();
  build(all);
  const std::string store = read_file(files().validation[0].store),
                    validation = read_file(files().validation[0].text);
  write("validation.tokens", store.substr(0, 100));
  EXPECT_TRUE(build(all));
  EXPECT_EQ(read_file(files().validation[0].store), store);
  write("validation.jsonl", "something else");
  EXPECT_FALSE(build(all));
  EXPECT_EQ(read_file(files().validation[0].text), validation);
}

/// The store as format 1 had it: no target bits, no byte lengths, a shorter trailer.
std::string in_format_1(const std::string& bytes) {
  const std::size_t added = sizeof(TokenStore::Trailer) - 128;
  std::string old = bytes;
  old.erase(bytes.size() - sizeof(TokenStore::Trailer) - 640, 640 + added);
  old[old.size() - 128] = 1;
  const std::size_t digested = old.size() - 16;
  const uint64_t digest = XXH3_64bits(old.data(), digested);
  old.replace(digested, 8, reinterpret_cast<const char*>(&digest), 8);
  return old;
}

TEST_F(BuildTest, ReplacesStoresOfFormat1) {
  const Corpus all = corpus();
  build(all);
  const std::string store = read_file(training_store());
  write("training.tokens", in_format_1(store));
  expect_mentions(error_of([&] { TokenStore{training_store()}; }), {"version 1", "version 3"});
  EXPECT_TRUE(build(all));
  EXPECT_EQ(read_file(training_store()), store);
  EXPECT_FALSE(build(all));
}

// A run that began with format 1 continues in its order, which depends on this digest.
TEST_F(BuildTest, TheSourcesDigestOfTextIsThatOfFormat1) {
  build({{{{write("a.txt", "one\n%\ntwo")}, "%"}}, {}, 0});
  const std::string file = xxh3_128_of_file(folder_ / "a.txt");
  EXPECT_EQ(TokenStore(training_store()).sources_digest(),
            xxh3_128("1 bytes 320 0\n%\ntext\n" + file + " text\n"));
}

TEST_F(BuildTest, TakesValidationFilesAsTheyAre) {
  const Corpus given = {
      {{{write("t.txt", "train one\n%\ntrain two\n")}, "%"}}, {{{write("v.txt", "valid\n")}}}, 0};
  build(given);
  EXPECT_EQ(TokenStore(training_store()).num_documents(), 2);
  EXPECT_EQ(read_file(files().validation[0].text), "{\"text\":\"valid\\n\"}\n");
}

// A separator of plain text could not say whether a document ends in a line break.
TEST_F(BuildTest, TheValidationTextReadsBackToTheSameDocuments) {
  const std::vector<std::string> documents = {
      "no line break", "one\n", "%\n", "two\n\n", "\"quotes\" \\ \t", std::string("\0x", 2), "äöü"};
  std::string lines;
  for (const auto& document : documents) {
    lines += nlohmann::json{{"text", document}}.dump() + "\n";
  }
  const Corpus all{{{{write("t.txt", "train")}}}, {{{write("v.jsonl", lines)}, "%"}}, 0};
  EXPECT_EQ(build_token_stores(all, tokenizer_, files()).validation_not_utf8, 0);
  EXPECT_EQ(documents_in(files().validation[0].text), documents);
}

TEST_F(BuildTest, ValidationDocumentsThatAreNoUtf8AreCounted) {
  const Corpus all{
      {{{write("t.txt", "train")}}}, {{{write("v.txt", "sound\n%\ncaf\xE9\n")}, "%"}}, 0};
  EXPECT_EQ(build_token_stores(all, tokenizer_, files()).validation_not_utf8, 1);
  EXPECT_EQ(documents_in(files().validation[0].text),
            (std::vector<std::string>{"sound\n", "caf\uFFFD\n"}));
  EXPECT_EQ(TokenStore(files().validation[0].store).num_tokens(), 11);
}

TEST_F(BuildTest, WithoutValidationWritesTheTrainingStoreOnly) {
  Corpus all = corpus();
  all.validation_fraction = 0;
  build(all);
  EXPECT_EQ(TokenStore(training_store()).num_documents(), 400);
  EXPECT_FALSE(std::filesystem::exists(files().validation[0].store));
  EXPECT_FALSE(std::filesystem::exists(files().validation[0].text));
}

TEST_F(BuildTest, RefusesAnEmptyCorpusAndLeavesNothing) {
  const auto file = write("blank.txt", " \n\n");
  for (const double fraction : {0.0, 0.1}) {
    expect_mentions(error_of([&] { build({{{{file}}}, {}, fraction}); }), {"blank.txt", "empty"});
  }
  expect_mentions(error_of([&] {
                    build({{{{write("a.txt", "a")}}}, {{{file}}}, 0});
                  }),
                  {"blank.txt", "validation corpus is empty"});
  EXPECT_FALSE(std::filesystem::exists(training_store()));
  EXPECT_FALSE(std::filesystem::exists(training_store().string() + ".braid.tmp"));
}

TEST_F(BuildTest, RefusesASplitThatLeavesASideEmpty) {
  expect_mentions(error_of([&] {
                    build({{{{write("a.txt", "a single document")}}}, {}, 0.02});
                  }),
                  {"0.02", "of the 1 document ", "document separator"});
}

TEST_F(BuildTest, RefusesOptionsThatContradict) {
  const auto file = write("a.txt", "a");
  expect_mentions(error_of([&] { build({{{{file}}}, {{{file}}}, 0.1}); }), {"choose one"});
  expect_mentions(error_of([&] { build({{{{file}}}, {}, 1}); }), {"below 1"});
  expect_mentions(error_of([&] { build({{{{file}}}, {}, -0.1}); }), {"at least 0"});
}

TEST_F(BuildTest, SourcesHaveStoresOfTheirOwnAndShareTheValidation) {
  const Corpus all{{{{write("a.txt", "one\n%\ntwo\n%\nthree")}, "%"},
                    {{write("b.jsonl", R"({"text": "four"})")}}},
                   {{{write("v.txt", "five")}}},
                   0};
  CorpusFiles two = files();
  two.training = {folder_ / "a.tokens", folder_ / "b.tokens"};
  const auto built = build_token_stores(all, tokenizer_, two);
  EXPECT_EQ(TokenStore(two.training[0]).num_documents(), 3);
  EXPECT_EQ(TokenStore(two.training[1]).text_bytes(), 4);
  ASSERT_EQ(built.training.size(), 2u);
  EXPECT_EQ(built.training[0],
            (TextDigest{(folder_ / "a.txt").string(), xxh3_128_of_file(folder_ / "a.txt"), 17}));

  const auto digest = [&](int i) { return TokenStore(two.training[i]).sources_digest(); };
  const std::string a = digest(0), b = digest(1);
  write("b.jsonl", R"({"text": "other"})");
  EXPECT_TRUE(build_token_stores(all, tokenizer_, two).rebuilt);
  EXPECT_EQ(digest(0), a);
  EXPECT_NE(digest(1), b);
  expect_mentions(error_of([&] { build_token_stores(all, tokenizer_, files()); }),
                  {"2 sources", "got 1"});
}

TEST_F(BuildTest, ANameThatMeansAnotherFormatBuildsAgain) {
  const std::string contents = R"({"text": "one"})";
  EXPECT_TRUE(build({{{{write("a.txt", contents)}}}, {}, 0}));
  EXPECT_FALSE(build({{{{write("b.txt", contents)}}}, {}, 0}));
  EXPECT_TRUE(build({{{{write("a.jsonl", contents)}}}, {}, 0}));
  EXPECT_EQ(TokenStore(training_store()).text_bytes(), 3);
}

TEST_F(BuildTest, AFolderIsDigestedFileByFile) {
  write("in/a.txt", "a");
  write("in/b.txt", "bb");
  const Corpus all{{{{folder_ / "in"}}}, {}, 0};
  const auto before = build_token_stores(all, tokenizer_, files()).training;
  ASSERT_EQ(before.size(), 1u);
  EXPECT_EQ(before[0].bytes, 3);
  write("in/b.txt", "bc");
  EXPECT_NE(build_token_stores(all, tokenizer_, files()).training[0].digest, before[0].digest);
}

TEST_F(BuildTest, NeverOverwritesWhatItDidNotMake) {
  const Corpus all = corpus();
  write("validation.tokens", "my diary");
  expect_mentions(error_of([&] { build(all); }), {"validation.tokens", "in the way"});
  EXPECT_EQ(read_file(files().validation[0].store), "my diary");
  std::filesystem::remove(files().validation[0].store);

  CorpusFiles inside = files();
  inside.validation[0].text = all.training[0].paths[0];
  expect_mentions(error_of([&] { build_token_stores(all, tokenizer_, inside); }),
                  {"all.txt", "overwrite"});
}

}  // namespace
}  // namespace braid::testing
