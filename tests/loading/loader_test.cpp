#include "data/loader.h"

#include <algorithm>
#include <cmath>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/random.h"
#include "tests/loading/corpus.h"
#include "tests/support/compare.h"

namespace braid::testing {
namespace {

class LoaderTest : public CorpusTest {
 protected:
  /// 60 documents of 1..79 bytes; each byte says which document it is from.
  static std::vector<std::string> documents() {
    std::vector<std::string> result;
    for (uint64_t i = 0; i < 60; ++i) {
      result.emplace_back(1 + random_bits(5, i) % 79, static_cast<char>('A' + i));
    }
    return result;
  }
};

/// One context of a row, as ids.
struct Context {
  std::vector<int64_t> ids, targets;
  auto operator<=>(const Context&) const = default;
};

std::vector<int64_t> values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

/// Takes rows apart and checks everything that must hold for any row.
std::vector<Context> contexts_of(const Batch& batch, int64_t pad_id) {
  std::vector<Context> contexts;
  int64_t num_targets = 0;
  for (int64_t b = 0; b < batch.ids_BS.size(0); ++b) {
    const auto ids = values(batch.ids_BS[b]), targets = values(batch.targets_BS[b]);
    const auto documents = values(batch.documents_BS[b]), positions = values(batch.positions_BS[b]);
    int64_t current = -1;
    bool padding = false;
    for (std::size_t s = 0; s < ids.size(); ++s) {
      num_targets += targets[s] != kIgnoredTarget;
      if (documents[s] == -1) {
        padding = true;
        EXPECT_EQ(ids[s], pad_id);
        EXPECT_EQ(targets[s], kIgnoredTarget);
        EXPECT_EQ(positions[s], 0);
        continue;
      }
      EXPECT_FALSE(padding) << "padding comes last";
      if (documents[s] != current) {
        EXPECT_EQ(documents[s], current + 1) << "contexts are contiguous and numbered in order";
        current = documents[s];
        contexts.emplace_back();
      }
      EXPECT_EQ(positions[s], static_cast<int64_t>(contexts.back().ids.size()));
      contexts.back().ids.push_back(ids[s]);
      contexts.back().targets.push_back(targets[s]);
    }
  }
  EXPECT_EQ(num_targets, batch.num_targets);
  return contexts;
}

/// What an epoch must consist of, in no particular order, straight from the definition.
std::vector<Context> expected_contexts(const std::vector<std::string>& documents,
                                       int64_t seq_len,
                                       bool count_end) {
  const ByteTokenizer tokenizer;
  std::vector<Context> contexts;
  for (const std::string& document : documents) {
    std::vector<int64_t> sequence = tokenizer.encode(document);
    sequence.insert(sequence.begin(), tokenizer.begin_id());
    sequence.push_back(tokenizer.end_id());
    for (std::size_t i = 0; i + 1 < sequence.size(); ++i) {
      if (i % static_cast<std::size_t>(seq_len) == 0) {
        contexts.emplace_back();
      }
      const bool counted = count_end || sequence[i + 1] != tokenizer.end_id();
      contexts.back().ids.push_back(sequence[i]);
      contexts.back().targets.push_back(counted ? sequence[i + 1] : kIgnoredTarget);
    }
  }
  std::sort(contexts.begin(), contexts.end());
  return contexts;
}

/// Rows of one epoch, one a batch.
std::vector<Batch> rows_of_epoch(Loader& loader) {
  std::vector<Batch> rows;
  const double epoch = std::floor(loader.epochs());
  while (loader.epochs() < epoch + 1) {
    rows.push_back(loader.next(1));
  }
  return rows;
}

std::vector<Context> sorted_contexts(const std::vector<Batch>& batches, int64_t pad_id) {
  std::vector<Context> contexts;
  for (const Batch& batch : batches) {
    const auto more = contexts_of(batch, pad_id);
    contexts.insert(contexts.end(), more.begin(), more.end());
  }
  std::sort(contexts.begin(), contexts.end());
  return contexts;
}

void expect_equal(const Batch& got, const Batch& want) {
  expect_bitwise_equal("ids", got.ids_BS, want.ids_BS);
  expect_bitwise_equal("targets", got.targets_BS, want.targets_BS);
  expect_bitwise_equal("documents", got.documents_BS, want.documents_BS);
  expect_bitwise_equal("positions", got.positions_BS, want.positions_BS);
  EXPECT_EQ(got.num_targets, want.num_targets);
}

TEST_F(LoaderTest, EveryTokenAfterTheBeginTokenIsATargetOnceAnEpoch) {
  const auto store = store_of(documents());
  for (const int64_t seq_len : {2, 7, 16, 100}) {
    for (const int64_t window : {1, 7, 256}) {
      Loader loader(*store, {.seq_len = seq_len, .seed = 3, .pack_window = window});
      for (int epoch = 0; epoch < 2; ++epoch) {
        EXPECT_TRUE(sorted_contexts(rows_of_epoch(loader), store->pad_id()) ==
                    expected_contexts(documents(), seq_len, true))
            << "seq_len " << seq_len << " window " << window << " epoch " << epoch;
      }
    }
  }
}

TEST_F(LoaderTest, ContextsHoldOneDocumentEach) {
  const auto store = store_of(documents());
  Loader loader(*store, {.seq_len = 32, .seed = 3});
  for (const Context& context : contexts_of(loader.next(20), store->pad_id())) {
    std::set<int64_t> bytes(context.ids.begin(), context.ids.end());
    bytes.erase(store->begin_id());
    EXPECT_LE(bytes.size(), 1u);
  }
}

TEST_F(LoaderTest, CutsALongDocumentWithoutLosingATarget) {
  const auto store = store_of({"abcdefg"});
  Loader loader(*store, {.seq_len = 3, .seed = 0, .shuffle = false});
  const Batch batch = loader.next(3);
  const auto byte = [](char c) { return 3 + int64_t{c}; };
  EXPECT_EQ(
      values(batch.ids_BS),
      (std::vector<int64_t>{
          0, byte('a'), byte('b'), byte('c'), byte('d'), byte('e'), byte('f'), byte('g'), 2}));
  EXPECT_EQ(values(batch.targets_BS),
            (std::vector<int64_t>{byte('a'),
                                  byte('b'),
                                  byte('c'),
                                  byte('d'),
                                  byte('e'),
                                  byte('f'),
                                  byte('g'),
                                  1,
                                  kIgnoredTarget}));
  EXPECT_EQ(values(batch.positions_BS), (std::vector<int64_t>{0, 1, 2, 0, 1, 2, 0, 1, 0}));
  EXPECT_EQ(values(batch.documents_BS), (std::vector<int64_t>{0, 0, 0, 0, 0, 0, 0, 0, -1}));
  EXPECT_EQ(batch.num_targets, 8);
}

TEST_F(LoaderTest, SeekingContinuesTheStreamAtEveryPosition) {
  const auto store = store_of(documents());
  const LoaderOptions options{.seq_len = 24, .seed = 9, .pack_window = 16};
  Loader straight(*store, options);
  std::vector<Batch> rows;
  while (straight.epochs() < 2.5) {
    EXPECT_EQ(straight.position(), static_cast<int64_t>(rows.size()));
    rows.push_back(straight.next(1));
  }
  Loader moved(*store, options);
  for (std::size_t i = rows.size(); i-- > 0;) {
    Loader fresh(*store, options);
    fresh.seek(static_cast<int64_t>(i));
    moved.seek(static_cast<int64_t>(i));
    EXPECT_EQ(fresh.position(), static_cast<int64_t>(i));
    for (std::size_t j = i; j < std::min(i + 3, rows.size()); ++j) {
      expect_equal(fresh.next(1), rows[j]);
      expect_equal(moved.next(1), rows[j]);
    }
  }
}

TEST_F(LoaderTest, TheStreamDoesNotDependOnTheBatchSize) {
  const auto store = store_of(documents());
  const LoaderOptions options{.seq_len = 24, .seed = 9, .pack_window = 16};
  Loader ones(*store, options), many(*store, options);
  for (int i = 0; i < 20; ++i) {
    const Batch batch = many.next(7);
    for (int64_t b = 0; b < 7; ++b) {
      expect_bitwise_equal("ids", batch.ids_BS[b], ones.next(1).ids_BS[0]);
    }
  }
  EXPECT_EQ(many.position(), ones.position());
}

TEST_F(LoaderTest, SameSeedSameBitsOtherSeedOrEpochOtherOrder) {
  const auto store = store_of(documents());
  const auto epoch = [&](uint64_t seed, int skipped) {
    Loader loader(*store, {.seq_len = 16, .seed = seed});
    for (int i = 0; i < skipped; ++i) {
      rows_of_epoch(loader);
    }
    std::vector<int64_t> ids;
    for (const Batch& row : rows_of_epoch(loader)) {
      const auto more = values(row.ids_BS);
      ids.insert(ids.end(), more.begin(), more.end());
    }
    return ids;
  };
  EXPECT_EQ(epoch(1, 0), epoch(1, 0));
  EXPECT_NE(epoch(1, 0), epoch(2, 0));
  EXPECT_NE(epoch(1, 0), epoch(1, 1));
}

TEST_F(LoaderTest, ALongDocumentsRowsAreShuffled) {
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += static_cast<char>(i / 8);
  }
  const auto store = store_of({text});
  Loader loader(*store, {.seq_len = 8, .seed = 1});
  int64_t ascending = 0, previous = -1;
  for (const Batch& row : rows_of_epoch(loader)) {
    const int64_t last = values(row.ids_BS)[0];
    ascending += last > previous;
    previous = last;
  }
  EXPECT_GT(ascending, 30);  // of 126 rows; all of them would rise in reading order
  EXPECT_LT(ascending, 96);
}

TEST_F(LoaderTest, ATinyCorpusRepeatsForever) {
  const auto store = store_of({"x"});
  Loader loader(*store, {.seq_len = 8, .seed = 1});
  const Batch batch = loader.next(5);
  EXPECT_EQ(batch.num_targets, 10);
  EXPECT_EQ(loader.epochs(), 5);
  EXPECT_EQ(loader.position(), 5);
}

TEST_F(LoaderTest, EpochsGrowSteadily) {
  const auto store = store_of(documents());
  Loader loader(*store, {.seq_len = 24, .seed = 9, .pack_window = 7});
  double previous = loader.epochs();
  EXPECT_EQ(previous, 0);
  for (int i = 0; i < 200; ++i) {
    loader.next(1);
    EXPECT_GT(loader.epochs(), previous);
    EXPECT_LT(loader.epochs(), previous + 0.1);
    previous = loader.epochs();
  }
}

TEST_F(LoaderTest, EvaluationCountsEveryByteOnceAndNoEndToken) {
  const auto store = store_of(documents());
  for (const int64_t seq_len : {2, 16, 100}) {
    const auto batches = evaluation_batches(*store, seq_len, 4);
    EXPECT_TRUE(sorted_contexts(batches, store->pad_id()) ==
                expected_contexts(documents(), seq_len, false));
    int64_t counted = 0;
    for (const Batch& batch : batches) {
      EXPECT_LE(batch.ids_BS.size(0), 4);
      counted += batch.num_targets;
    }
    EXPECT_EQ(counted, store->text_bytes());
  }
}

TEST_F(LoaderTest, RefusesOptionsThatCannotWork) {
  const auto store = store_of({"x"});
  expect_mentions(error_of([&] { Loader(*store, {.seq_len = 1}); }),
                  {"seq_len", "at least 2", "got 1"});
  expect_mentions(error_of([&] { evaluation_batches(*store, 1, 4); }), {"seq_len", "at least 2"});
  expect_mentions(error_of([&] { evaluation_batches(*store, 8, 0); }), {"at least 1 row"});
  expect_mentions(error_of([&] { Loader(*store, {.seq_len = 8, .pack_window = 0}); }),
                  {"pack_window"});
  Loader loader(*store, {.seq_len = 8});
  expect_mentions(error_of([&] { loader.next(0); }), {"at least 1 row"});
  expect_mentions(error_of([&] { loader.seek(-1); }), {"position -1"});
}

}  // namespace
}  // namespace braid::testing
