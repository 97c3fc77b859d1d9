#include "data/loader.h"

#include <cmath>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/file.h"
#include "tests/loading/contexts.h"
#include "tests/support/compare.h"

namespace braid::testing {
namespace {

const StreamOptions kOptions{.seed = 9, .pack_window = 16};

/// Rows of one epoch, one a batch.
std::vector<Batch> rows_of_epoch(Loader& loader, int64_t seq_len) {
  std::vector<Batch> rows;
  const double epoch = std::floor(loader.progress().epochs[0]);
  while (loader.progress().epochs[0] < epoch + 1) {
    rows.push_back(loader.next({1, seq_len}));
  }
  return rows;
}

TEST_F(LoaderTest, EveryTokenAfterTheBeginTokenIsATargetOnceAnEpoch) {
  const auto store = store_of(documents());
  for (const int64_t seq_len : {2, 7, 16, 100}) {
    for (const int64_t window : {1, 7, 256}) {
      Loader loader({{*store}}, {.seed = 3, .pack_window = window});
      for (int epoch = 0; epoch < 2; ++epoch) {
        EXPECT_TRUE(sorted_contexts(rows_of_epoch(loader, seq_len), store->pad_id()) ==
                    expected_contexts(documents(), seq_len, true))
            << "seq_len " << seq_len << " window " << window << " epoch " << epoch;
      }
    }
  }
}

TEST_F(LoaderTest, ContextsHoldOneDocumentEach) {
  const auto store = store_of(documents());
  Loader loader({{*store}}, {.seed = 3});
  for (const Context& context : contexts_of(loader.next({20, 32}), store->pad_id())) {
    std::set<int64_t> bytes(context.ids.begin(), context.ids.end());
    bytes.erase(store->begin_id());
    EXPECT_LE(bytes.size(), 1u);
  }
}

TEST_F(LoaderTest, CutsALongDocumentWithoutLosingATarget) {
  const auto store = store_of({"abcdefg"});
  Loader loader({{*store}}, {.shuffle = false});
  const Batch batch = loader.next({3, 3});
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

TEST_F(LoaderTest, TheStreamDoesNotDependOnTheBatchSize) {
  const auto store = store_of(documents());
  Loader ones({{*store}}, kOptions), many({{*store}}, kOptions);
  for (int i = 0; i < 20; ++i) {
    const Batch batch = many.next({7, 24});
    for (int64_t b = 0; b < 7; ++b) {
      expect_bitwise_equal("ids", batch.ids_BS[b], ones.next({1, 24}).ids_BS[0]);
    }
  }
  EXPECT_EQ(many.state(), ones.state());
}

// The order is part of what a checkpoint means: a change of it makes every run another one.
TEST_F(LoaderTest, TheOrderIsFixedForever) {
  const auto store = store_of(documents());
  Loader loader({{*store}}, kOptions);
  const Batch batch = loader.next({200, 24});
  const auto digest = [](const at::Tensor& tensor) {
    return xxh3_128({static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes()});
  };
  EXPECT_EQ(digest(batch.ids_BS), "4dbd492a8087669370d724b83ced22e0");
  EXPECT_EQ(digest(batch.targets_BS), "4246343807a83c0cc2b9bee06c3297a8");
  EXPECT_EQ(digest(batch.documents_BS), "35ccf933e681e78b76a6c6e93814d78e");
  EXPECT_NEAR(loader.progress().epochs[0], 1.93, 0.01);
}

TEST_F(LoaderTest, SameSeedSameBitsOtherSeedOrEpochOtherOrder) {
  const auto store = store_of(documents());
  const auto epoch = [&](uint64_t seed, int skipped) {
    Loader loader({{*store}}, {.seed = seed});
    for (int i = 0; i < skipped; ++i) {
      rows_of_epoch(loader, 16);
    }
    std::vector<int64_t> ids;
    for (const Batch& row : rows_of_epoch(loader, 16)) {
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
  Loader loader({{*store}}, {.seed = 1});
  int64_t ascending = 0, previous = -1;
  for (const Batch& row : rows_of_epoch(loader, 8)) {
    const int64_t last = values(row.ids_BS)[0];
    ascending += last > previous;
    previous = last;
  }
  EXPECT_GT(ascending, 30);  // of 126 rows; all of them would rise in reading order
  EXPECT_LT(ascending, 96);
}

TEST_F(LoaderTest, ATinyCorpusRepeatsForever) {
  const auto store = store_of({"x"});
  Loader loader({{*store}}, {.seed = 1});
  const Batch batch = loader.next({5, 8});
  EXPECT_EQ(batch.num_targets, 10);
  EXPECT_EQ(loader.progress().epochs, std::vector<double>{5});
  EXPECT_EQ(loader.progress().samples, 5);
  EXPECT_EQ(loader.progress().bytes, 5);
}

TEST_F(LoaderTest, EpochsGrowSteadily) {
  const auto store = store_of(documents());
  Loader loader({{*store}}, {.seed = 9, .pack_window = 7});
  double previous = loader.progress().epochs[0];
  EXPECT_EQ(previous, 0);
  for (int i = 0; i < 200; ++i) {
    loader.next({1, 24});
    const double epochs = loader.progress().epochs[0];
    EXPECT_GT(epochs, previous);
    EXPECT_LT(epochs, previous + 0.1);
    previous = epochs;
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

TEST_F(LoaderTest, EvaluationRowsAreNoLongerThanTheFullestOne) {
  const auto length_of = [](const TokenStore& store, int64_t seq_len, int64_t shares) {
    return evaluation_batches(store, seq_len, 4, shares).at(0).ids_BS.size(1);
  };
  const auto one = store_of({std::string(299, 'x'), "y"});  // with their begin tokens 302 inputs
  EXPECT_EQ(length_of(*one, 1 << 20, 1), 384);
  EXPECT_EQ(length_of(*one, 1 << 20, 4), 512);
  EXPECT_EQ(length_of(*one, 310, 1), 310);
  EXPECT_EQ(length_of(*one, 100, 4), 100) << "rows are full";
}

TEST_F(LoaderTest, RefusesOptionsThatCannotWork) {
  const auto store = store_of({"x"});
  Loader loader({{*store}}, {});
  expect_mentions(error_of([&] { loader.next({1, 1}); }), {"seq_len", "at least 2", "got 1"});
  expect_mentions(error_of([&] { loader.next({0, 8}); }), {"at least 1 row"});
  expect_mentions(error_of([&] { evaluation_batches(*store, 1, 4); }), {"seq_len", "at least 2"});
  expect_mentions(error_of([&] { evaluation_batches(*store, 8, 0); }), {"at least 1 row"});
  expect_mentions(error_of([&] { Loader({{*store}}, {.pack_window = 0}); }), {"pack_window"});
  expect_mentions(error_of([&] { Loader({}, {}); }), {"at least one source"});
  expect_mentions(error_of([&] { Loader({{*store, 0.0}}, {}); }), {"weight", "more than 0"});
}

}  // namespace
}  // namespace braid::testing
