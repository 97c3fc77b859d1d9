#include "data/store_documents.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "data/tokenize.h"
#include "tests/loading/corpus.h"

namespace braid::testing {
namespace {

std::vector<Document> all_of(DocumentSource& source) {
  std::vector<Document> documents;
  for (Document document; source.next(document);) {
    documents.push_back(document);
  }
  return documents;
}

class StoreDocumentsTest : public CorpusTest {
 protected:
  std::filesystem::path write_store(const std::string& name,
                                    const std::vector<Document>& documents) const {
    TokenStoreWriter writer(folder_ / name, tokenizer_, std::string(32, '0'));
    for (const Document& document : documents) {
      writer.add(document);
    }
    writer.commit();
    return folder_ / name;
  }
};

TEST_F(StoreDocumentsTest, GiveBackIdsTargetsAndWeights) {
  const std::vector<Document> documents = {
      text_document("all of it", tokenizer_),
      {.ids = {259, 70, 71, 260, 72, 73}, .targets = {{1, 3}, {4, 6, 0.5F}, {6, 7}}},
      {.ids = {80, 81}, .targets = {{2, 3}}}};
  StoreDocuments source(write_store("made.tokens", documents), tokenizer_);
  const auto found = all_of(source);
  ASSERT_EQ(found.size(), documents.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].ids, documents[i].ids);
    EXPECT_EQ(found[i].targets, documents[i].targets);
  }
  EXPECT_EQ(found[0].content_hash, content_hash("all of it"));
}

TEST_F(StoreDocumentsTest, OfAnotherTokenizerAreRefused) {
  class Renamed : public ByteTokenizer {
   public:
    std::string name() const override { return "others"; }
  };
  const auto file = write_store("made.tokens", {text_document("a", tokenizer_)});
  expect_mentions(error_of([&] { StoreDocuments(file, Renamed()); }),
                  {"made.tokens", "'bytes'", "'others'", "braid tokenize"});
}

TEST_F(StoreDocumentsTest, StandAmongTextsInTheOrderOfThePaths) {
  const auto first = write("first.txt", "first"), last = write("last.txt", "last");
  const auto store = write_store(
      "made", {text_document("second", tokenizer_), text_document("third", tokenizer_)});
  const auto source = open_documents({.paths = {first, store, last}}, tokenizer_);
  std::vector<std::string> texts;
  for (const Document& document : all_of(*source)) {
    texts.push_back(tokenizer_.decode(document.ids));
  }
  EXPECT_EQ(texts, (std::vector<std::string>{"first", "second", "third", "last"}));
}

TEST_F(StoreDocumentsTest, BuildTheStoreThatTheirTextsBuild) {
  std::string lines;
  for (int i = 0; i < 100; ++i) {
    lines += text("document ", i, "\n%\n");
  }
  const TextSource texts{{write("in.txt", lines)}, "%"};
  const auto whole = folder_ / "whole.tokens";
  build_token_stores({{texts}, {}}, tokenizer_, {{whole}, {}});
  const auto texts_of = [&](const TextSource& source) {
    build_token_stores({{source}, {}, 0.2}, tokenizer_, files());
    const TokenStore store(training_store());
    std::vector<std::string> result;
    for (int64_t i = 0; i < store.num_documents(); ++i) {
      result.push_back(tokenizer_.decode(store.tokens(i)));
    }
    return result;
  };
  EXPECT_EQ(texts_of({.paths = {whole}}), texts_of(texts));
}

TEST_F(StoreDocumentsTest, TextsComeInOrderHoweverManyThreadsEncodeThem) {
  std::string lines;
  for (int i = 0; i < 3000; ++i) {
    lines +=
        "{\"text\": \"" + text(i) + std::string(static_cast<std::size_t>(i % 997), 'x') + "\"}\n";
  }
  const TextSource source{{write("in.jsonl", lines)}};
  const int before = at::get_num_threads();
  at::set_num_threads(4);
  TextDocuments documents(source, tokenizer_);
  int i = 0;
  for (const Document& document : all_of(documents)) {
    ASSERT_TRUE(tokenizer_.decode(document.ids).starts_with(text(i++))) << i;
  }
  at::set_num_threads(before);
  EXPECT_EQ(i, 3000);
}

TEST_F(StoreDocumentsTest, StatisticsCountTokensBytesAndSpecialTokens) {
  const TokenStore store(write_store("made.tokens",
                                     {text_document("four", tokenizer_),
                                      {.ids = {259, 70, 71, 260, 72, 73}, .targets = {{1, 3}}}}));
  const auto found = statistics_of(store);
  EXPECT_EQ(found.documents, 2);
  EXPECT_EQ(found.tokens, 10);
  EXPECT_EQ(found.special, 2);
  EXPECT_EQ(found.text_bytes, 8);
  EXPECT_EQ(found.longest, 6);
}

}  // namespace
}  // namespace braid::testing
