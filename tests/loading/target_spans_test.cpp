// Documents of which only some tokens are targets, from their source to batches.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "tests/loading/contexts.h"
#include "tests/support/compare.h"

namespace braid::testing {
namespace {

/// Documents made by hand.
class ListSource : public DocumentSource {
 public:
  explicit ListSource(std::vector<Document> documents) : documents_(std::move(documents)) {}

  bool next(Document& document) override {
    if (next_ == documents_.size()) {
      return false;
    }
    document = documents_[next_++];
    return true;
  }

 private:
  std::vector<Document> documents_;
  std::size_t next_ = 0;
};

class TargetSpansTest : public LoaderTest {
 protected:
  std::unique_ptr<TokenStore> store_of_documents(std::vector<Document> list,
                                                 const std::string& name) const {
    ListSource source(std::move(list));
    TokenStoreWriter writer(folder_ / name, tokenizer_, std::string(32, '0'));
    for (Document document; source.next(document);) {
      writer.add(document);
    }
    writer.commit();
    return std::make_unique<TokenStore>(folder_ / name);
  }

  Document with_spans(const std::string& text, std::vector<TargetSpan> targets) const {
    auto document = text_document(text, tokenizer_);
    document.targets = std::move(targets);
    return document;
  }

  /// The documents of LoaderTest; the later half of each is a target, and every other end token, or
  /// all of them.
  std::vector<Document> halves(bool all_ends = false) const {
    std::vector<Document> result;
    for (const auto& text : documents()) {
      const auto size = static_cast<int64_t>(text.size());
      const bool with_end = all_ends || result.size() % 2 == 0;
      result.push_back(with_spans(text, {{size / 2, size + with_end}}));
    }
    return result;
  }

  /// The message for a store of two documents whose bytes `change` has edited, as a faulty writer
  /// would.
  template <class Change>
  std::string error_after(Change change) const {
    const auto store =
        store_of_documents({with_spans("one", {{1, 2}}), with_spans("two!", {{2, 5}})}, "sound");
    std::string bytes = read_file(store->path());
    change(bytes);
    const std::size_t digested = bytes.size() - 16;
    const uint64_t digest = XXH3_64bits(bytes.data(), digested);
    bytes.replace(digested, 8, reinterpret_cast<const char*>(&digest), 8);
    const auto path = write("changed.tokens", bytes);
    return error_of([&] { TokenStore{path}; });
  }
};

// From the end of a store: the trailer, the byte lengths of 320 ids, one word of target bits.
constexpr std::size_t kTargetBits = sizeof(TokenStore::Trailer) + 640 + 8;

TEST_F(TargetSpansTest, TokensOutsideTheSpansAreInputsAlone) {
  const auto store =
      store_of_documents({with_spans("abcdef", {{1, 3}, {5, 6}}), with_spans("xy", {{2, 3}})}, "s");
  EXPECT_EQ(store->num_tokens(), 8);
  EXPECT_EQ(store->num_targets(), 3);
  EXPECT_EQ(store->text_bytes(), 3);
  Loader loader({{*store}}, {.shuffle = false});
  const Batch batch = loader.next({2, 7});
  const auto byte = [](char c) { return 3 + int64_t{c}; };
  constexpr int64_t kNone = kIgnoredTarget;
  // The last token of the first document is followed by no target, so it is no input.
  EXPECT_EQ(values(batch.ids_BS[0]),
            (std::vector<int64_t>{
                0, byte('a'), byte('b'), byte('c'), byte('d'), byte('e'), tokenizer_.pad_id()}));
  EXPECT_EQ(values(batch.targets_BS[0]),
            (std::vector<int64_t>{kNone, byte('b'), byte('c'), kNone, kNone, byte('f'), kNone}));
  EXPECT_EQ(values(batch.targets_BS[1]),
            (std::vector<int64_t>{kNone, kNone, tokenizer_.end_id(), kNone, kNone, kNone, kNone}));
  EXPECT_EQ(batch.num_targets, 4);
  EXPECT_EQ(loader.progress().bytes, 3);
}

TEST_F(TargetSpansTest, InputsOrderAndEpochsAreThoseOfTheWholeText) {
  const auto whole = store_of(documents());
  const auto half = store_of_documents(halves(/*all_ends=*/true), "half");
  const StreamOptions options{.seed = 9, .pack_window = 16};
  Loader all({{*whole}}, options), some({{*half}}, options);
  int fewer = 0;  // batches; a few hold nothing but later halves
  for (int i = 0; i < 60; ++i) {
    const BatchShape shape{3, i < 30 ? 24 : 9};
    const Batch want = all.next(shape), got = some.next(shape);
    expect_bitwise_equal("ids", got.ids_BS, want.ids_BS);
    expect_bitwise_equal("documents", got.documents_BS, want.documents_BS);
    expect_bitwise_equal("positions", got.positions_BS, want.positions_BS);
    const auto is_target = got.targets_BS != kIgnoredTarget;
    expect_bitwise_equal(
        "targets", got.targets_BS, at::where(is_target, want.targets_BS, kIgnoredTarget));
    EXPECT_EQ(got.num_targets, is_target.sum().item<int64_t>());
    fewer += got.num_targets < want.num_targets;
  }
  EXPECT_GT(fewer, 50);
  EXPECT_EQ(some.progress().epochs, all.progress().epochs);
}

TEST_F(TargetSpansTest, EveryTargetIsOneOnceAnEpoch) {
  const auto store = store_of_documents(halves(), "half");
  int64_t with_ends = store->num_targets();
  for (int64_t document = 0; document < store->num_documents(); ++document) {
    const int64_t end = store->num_tokens(document);
    with_ends += store->targets(document, end, end + 1)[0];
  }
  EXPECT_EQ(with_ends, store->num_targets() + 30);
  for (const int64_t seq_len : {2, 7, 100}) {
    Loader loader({{*store}}, {.seed = 3, .pack_window = 7});
    int64_t targets = 0;
    while (loader.progress().epochs[0] < 1) {
      targets += loader.next({1, seq_len}).num_targets;
    }
    EXPECT_EQ(targets, with_ends);
    EXPECT_EQ(loader.progress().bytes, store->text_bytes());

    int64_t evaluated = 0;
    for (const Batch& batch : evaluation_batches(*store, seq_len, 4)) {
      evaluated += batch.num_targets;
    }
    EXPECT_EQ(evaluated, store->num_targets());
  }
}

TEST_F(TargetSpansTest, SpecialTokensInsideADocumentStandForNoText) {
  auto document = with_spans("ab", {{1, 4}});
  document.ids.insert(document.ids.begin() + 1, {260, tokenizer_.end_id()});
  const auto store = store_of_documents({document}, "chat");
  EXPECT_EQ(store->tokens(0)[2], tokenizer_.end_id());
  EXPECT_EQ(store->num_targets(), 3);
  EXPECT_EQ(store->text_bytes(), 1);
}

TEST_F(TargetSpansTest, AStoreOfTargetsAloneHasNoTargetBits) {
  const auto size_with = [&](std::vector<TargetSpan> targets) {
    return std::filesystem::file_size(
        store_of_documents({with_spans(std::string(1000, 'x'), std::move(targets))}, "s")->path());
  };
  const auto all = size_with({{0, 1001}});
  EXPECT_EQ(size_with({{0, 400}, {400, 1001}}), all);
  EXPECT_EQ(all, 8 + 2000 + 16 + 640 + sizeof(TokenStore::Trailer));
  EXPECT_EQ(size_with({{0, 1000}}), all + 128);  // 1001 bits
  EXPECT_EQ(size_with({{999, 1000}}), all + 128);
}

TEST_F(TargetSpansTest, WeightsReachTheirTargetsAndTakeNoRoomWhereAllAreOne) {
  const auto plain = store_of_documents({with_spans("abcd", {{0, 5}})}, "plain");
  EXPECT_FALSE(plain->has_weights());
  const auto store = store_of_documents({with_spans("ab", {{0, 3}}),
                                         with_spans("cdef", {{0, 1, 0.5f}, {2, 5, 2}}),
                                         with_spans("g", {{0, 2}})},
                                        "weighted");
  ASSERT_TRUE(store->has_weights());
  Loader loader({{*store, 1}}, {.seed = 1, .shuffle = false});
  const Batch batch = loader.next({1, 16});
  // begin a b | begin c d e f | begin g, longest first
  const float n = 0;
  const auto want = at::tensor({0.5f, n, 2.f, 2.f, 2.f, 1.f, 1.f, 1.f, 1.f, 1.f, n, n, n, n, n, n});
  EXPECT_TRUE(batch.weights_BS[0].equal(want)) << batch.weights_BS;
  EXPECT_TRUE((batch.targets_BS != kIgnoredTarget).equal(batch.weights_BS > 0));

  // Rows of a source without weights in the same batch.
  Loader mixed({{*store, 1}, {*plain, 1}}, {.seed = 1, .shuffle = false});
  const Batch both = mixed.next({2, 16});
  EXPECT_TRUE((both.targets_BS != kIgnoredTarget).equal(both.weights_BS > 0));
  EXPECT_EQ(both.weights_BS.sum().item<float>(), 11.5f + 5);
}

TEST_F(TargetSpansTest, RefusesWeightsThatAreNone) {
  TokenStoreWriter writer(folder_ / "s", tokenizer_, std::string(32, '0'));
  for (const float weight : {0.0f, -1.0f, std::nanf(""), INFINITY}) {
    expect_mentions(error_of([&] {
                      writer.add(with_spans("abc", {{0, 2, weight}}));
                    }),
                    {"document 0", "0..2", "weighs"});
  }
}

TEST_F(TargetSpansTest, BitsMayBeginWithinAWordAndEndInAnother) {
  for (const int64_t begin : {0, 1, 62, 63, 64, 65, 127, 128, 200}) {
    for (const int64_t end : {63, 64, 65, 128, 201}) {
      if (begin >= std::min<int64_t>(end, 200)) {
        continue;  // the end token alone is no token to learn
      }
      const auto store =
          store_of_documents({with_spans(std::string(200, 'x'), {{begin, end}})}, "s");
      for (int64_t i = 0; i <= 200; ++i) {
        ASSERT_EQ(store->targets(0, i, i + 1)[0], begin <= i && i < end) << begin << ".." << end;
      }
    }
  }
}

TEST_F(TargetSpansTest, TheDigestCoversTheSpans) {
  const auto one = store_of_documents({with_spans("abc", {{0, 2}})}, "one"),
             other = store_of_documents({with_spans("abc", {{1, 3}})}, "other");
  EXPECT_NE(one->trailer().digest, other->trailer().digest);
  std::string bytes = read_file(one->path());
  bytes[bytes.size() - kTargetBits] ^= 2;
  const auto path = write("changed.tokens", bytes);
  expect_mentions(error_of([&] { TokenStore{path}; }), {path.string(), "altered"});
}

TEST_F(TargetSpansTest, RefusesTargetBitsThatAFaultyWriterSigned) {
  expect_mentions(
      error_after([](std::string& bytes) { bytes.erase(bytes.size() - kTargetBits, 8); }),
      {"changed.tokens", "inconsistent", "2 documents, 7 tokens", "3 of them"});
  expect_mentions(error_after([](std::string& bytes) { bytes[bytes.size() - kTargetBits] ^= 1; }),
                  {"inconsistent", "4 of its tokens and 1 of its end tokens", "not 3 and 1"});
  expect_mentions(error_after([](std::string& bytes) {
                    // All tokens and end tokens: then there must be no bits.
                    bytes[bytes.size() - sizeof(TokenStore::Trailer) + 24] = 7;
                    bytes[bytes.size() - sizeof(TokenStore::Trailer) + 32] = 2;
                  }),
                  {"inconsistent", "do not fill"});
  expect_mentions(error_after([](std::string& bytes) {
                    bytes[bytes.size() - sizeof(TokenStore::Trailer) + 24] = 8;
                  }),
                  {"inconsistent", "8 of them"});
  expect_mentions(error_after([](std::string& bytes) {
                    bytes[bytes.size() - sizeof(TokenStore::Trailer) + 9] = 2;  // end_id
                  }),
                  {"inconsistent", "special token 513", "320"});
}

TEST_F(TargetSpansTest, TheWriterRefusesSpansThatAreNone) {
  TokenStoreWriter writer(folder_ / "s", tokenizer_, std::string(32, '0'));
  const auto error = [&](std::vector<TargetSpan> targets) {
    return error_of([&] { writer.add(with_spans("abc", std::move(targets))); });
  };
  expect_mentions(error({{-1, 2}}), {"document 0", "-1..2", "in order"});
  expect_mentions(error({{2, 2}}), {"2..2"});
  expect_mentions(error({{0, 5}}), {"0..5", "3 tokens and its end token"});
  expect_mentions(error({{0, 2}, {1, 3}}), {"1..3 after 2"});
  expect_mentions(error_of([&] { writer.add({}); }), {"document 0", "no tokens"});
  expect_mentions(error_of([&] {
                    writer.add({.ids = {320}, .targets = {{0, 1}}});
                  }),
                  {"document 0", "id 320", "vocabulary of 320"});
  writer.add(with_spans("abc", {{3, 4}}));
  expect_mentions(error_of([&] { writer.commit(); }), {"none of the 3 tokens", "target"});
}

TEST_F(TargetSpansTest, PairsStayTogetherInTheirOrderWhateverFitsARow) {
  TokenStoreWriter writer(folder_ / "pairs", tokenizer_, std::string(32, '0'));
  for (int i = 0; i < 30; ++i) {
    const std::string prompt(static_cast<std::size_t>(1 + i % 7), 'p');
    writer.add(
        text_document(prompt + std::string(static_cast<std::size_t>(1 + i), 'c'), tokenizer_));
    auto rejected = text_document(prompt + "r", tokenizer_);
    rejected.with_previous = true;
    writer.add(rejected);
  }
  writer.commit();
  const TokenStore store(folder_ / "pairs");
  ASSERT_EQ(store.documents_per_sample(), 2);
  Loader loader({{store}}, {.seed = 3, .pack_window = 8});
  std::vector<int64_t> chosen;
  while (chosen.size() < 30) {
    const Batch batch = loader.next({1, 64});
    const auto& contexts = batch.contexts.front();
    ASSERT_EQ(contexts.size() % 2, 0u);
    ASSERT_EQ(static_cast<int64_t>(contexts.size()), batch.documents_BS.max().item<int64_t>() + 1);
    for (std::size_t i = 0; i < contexts.size(); i += 2) {
      EXPECT_EQ(contexts[i].document % 2, 0);
      EXPECT_EQ(contexts[i + 1].document, contexts[i].document + 1);
      chosen.push_back(contexts[i].document);
    }
  }
  std::ranges::sort(chosen);
  for (std::size_t i = 0; i < 30; ++i) {
    EXPECT_EQ(chosen[i], static_cast<int64_t>(2 * i));
  }
  // Where the stream stands is restored as ever.
  const auto state = loader.state();
  const Batch want = loader.next({3, 64});
  Loader again({{store}}, {.seed = 3, .pack_window = 8});
  EXPECT_TRUE(again.restore(state).empty());
  expect_equal(again.next({3, 64}), want);
  EXPECT_EQ(evaluation_batches(store, 64, 4).front().contexts.front().size() % 2, 0u);
  EXPECT_THROW(Loader({{store}}, {}).next({1, 32}), Error);
}

}  // namespace
}  // namespace braid::testing
