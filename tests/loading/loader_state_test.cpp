// Stopping anywhere and continuing: the same samples, whatever lengths and sources they have.
#include "data/loader_state.h"

#include <algorithm>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/random.h"
#include "tests/loading/contexts.h"
#include "tests/support/compare.h"

namespace braid::testing {
namespace {

const StreamOptions kOptions{.seed = 9, .pack_window = 16};

/// Through the text that a checkpoint holds.
LoaderState stored(const LoaderState& state) {
  return parse_config<LoaderState>(dump_config(state), "checkpoint");
}

class LoaderStateTest : public LoaderTest {
 protected:
  LoaderStateTest() : store_(store_of(documents())) {}

  Loader loader() const { return Loader({{*store_}}, kOptions); }

  /// The targets of the batches, sorted: what was seen, how often.
  static std::vector<int64_t> targets_of(const std::vector<Batch>& batches) {
    std::vector<int64_t> targets;
    for (const Batch& batch : batches) {
      for (const int64_t target : values(batch.targets_BS)) {
        if (target != kIgnoredTarget) {
          targets.push_back(target);
        }
      }
    }
    std::sort(targets.begin(), targets.end());
    return targets;
  }

  std::unique_ptr<TokenStore> store_;
};

/// A ramp, a way back, and lengths that change with every sample.
int64_t seq_len_of_sample(std::size_t sample) {
  const std::vector<int64_t> lengths = {8, 16, 32, 5};
  return sample < 60 ? lengths[sample / 20] : lengths[random_bits(3, sample) % 4];
}

TEST_F(LoaderStateTest, ContinuesAtEverySamplePastChangesOfLength) {
  Loader straight = loader();
  std::vector<Batch> rows;
  std::vector<LoaderState> states;
  while (straight.progress().epochs[0] < 2.5) {
    states.push_back(straight.state());
    rows.push_back(straight.next({1, seq_len_of_sample(rows.size())}));
  }
  Loader moved = loader();
  for (std::size_t i = rows.size(); i-- > 0;) {
    Loader fresh = loader();
    EXPECT_TRUE(fresh.restore(stored(states[i])).empty());
    moved.restore(states[i]);
    EXPECT_EQ(fresh.state(), states[i]);
    EXPECT_EQ(fresh.progress().samples, static_cast<int64_t>(i));
    for (std::size_t j = i; j < std::min(i + 3, rows.size()); ++j) {
      expect_equal(fresh.next({1, seq_len_of_sample(j)}), rows[j]);
      expect_equal(moved.next({1, seq_len_of_sample(j)}), rows[j]);
    }
    EXPECT_EQ(fresh.progress().epochs, moved.progress().epochs);
  }
}

TEST_F(LoaderStateTest, ChangesOfLengthLoseNothingAndRepeatNothing) {
  Loader changing = loader(), constant = loader();
  std::vector<Batch> changing_rows, constant_rows;
  while (changing.progress().epochs[0] < 1) {
    changing_rows.push_back(changing.next({1, seq_len_of_sample(changing_rows.size())}));
  }
  while (constant.progress().epochs[0] < 1) {
    constant_rows.push_back(constant.next({1, 24}));
  }
  EXPECT_EQ(changing.progress().epochs[0], 1);
  EXPECT_EQ(targets_of(changing_rows), targets_of(constant_rows));
  EXPECT_EQ(changing.progress().bytes, store_->text_bytes());
  EXPECT_EQ(constant.progress().bytes, store_->text_bytes());
}

TEST_F(LoaderStateTest, TheRestOfADocumentIsOneContextAgainWhenRowsGrow) {
  const auto store = store_of({std::string(32, 'x')});  // 33 inputs
  Loader loader({{*store}}, {.shuffle = false});
  loader.next({2, 4});
  EXPECT_EQ(contexts_of(loader.next({1, 32}), store->pad_id()).at(0).ids.size(), 25u);
  EXPECT_EQ(loader.progress().epochs[0], 1);
}

TEST_F(LoaderStateTest, AnotherTextBeginsTheNextEpoch) {
  Loader before = loader();
  before.next({10, 24});
  auto changed = documents();
  changed.push_back("one more");
  TokenStoreWriter writer(folder_ / "changed.tokens", tokenizer_, std::string(32, '1'));
  for (const auto& document : changed) {
    writer.add(text_document(document, tokenizer_));
  }
  writer.commit();
  const TokenStore store(folder_ / "changed.tokens");
  Loader after({{store}}, kOptions);
  EXPECT_EQ(after.restore(before.state()), std::vector<std::size_t>{0});
  EXPECT_EQ(after.progress().epochs[0], 1);
  EXPECT_EQ(after.progress().samples, 10);
  EXPECT_EQ(after.progress().bytes, before.progress().bytes);

  Loader other_seed({{*store_}}, {.seed = 10, .pack_window = 16});
  EXPECT_EQ(other_seed.restore(before.state()), std::vector<std::size_t>{0});
  Loader other_window({{*store_}}, {.seed = 9, .pack_window = 17});
  EXPECT_EQ(other_window.restore(before.state()), std::vector<std::size_t>{0});
}

TEST_F(LoaderStateTest, RefusesAPositionThatCannotBe) {
  Loader before = loader();
  before.next({3, 24});
  const auto error = [&](auto change) {
    LoaderState state = before.state();
    change(state.sources[0].stream);
    Loader fresh = loader();
    return error_of([&] { fresh.restore(state); });
  };
  expect_mentions(error([](StreamState& state) { state.document = 60; }), {"document 60 of 60"});
  expect_mentions(error([](StreamState& state) { state.taken[0].rows = 1000; }), {"row 1000"});
  expect_mentions(error([](StreamState& state) {
                    state.taken.push_back({8, 1000});
                  }),
                  {"row 1000"});
  expect_mentions(error_of([] { parse_config<LoaderState>("samples: -1", "step-7"); }),
                  {"samples (step-7:1)", ">= 0"});
}

class MixedSourcesTest : public LoaderStateTest {
 protected:
  MixedSourcesTest() : other_(other_store()) {}

  std::unique_ptr<TokenStore> other_store() const {
    TokenStoreWriter writer(folder_ / "other.tokens", tokenizer_, std::string(32, '2'));
    for (int i = 0; i < 30; ++i) {
      writer.add(text_document(std::string(static_cast<std::size_t>(20 + i), '.'), tokenizer_));
    }
    writer.commit();
    return std::make_unique<TokenStore>(folder_ / "other.tokens");
  }

  Loader mixed(double first = 0.7, double second = 0.3) const {
    return Loader({{*store_, first}, {*other_, second}}, kOptions);
  }

  static bool is_other(const Batch& row) { return values(row.ids_BS)[1] == 3 + '.'; }

  std::unique_ptr<TokenStore> other_;
};

TEST_F(MixedSourcesTest, SamplesFollowTheWeightsAndEachSourceItsOwnOrder) {
  Loader both = mixed(), alone({{*store_}}, kOptions);
  int64_t others = 0;
  for (int64_t n = 1; n <= 300; ++n) {
    const Batch row = both.next({1, 24});
    if (is_other(row)) {
      ++others;
    } else {
      expect_equal(row, alone.next({1, 24}));
    }
    EXPECT_LT(std::abs(static_cast<double>(others) - 0.3 * static_cast<double>(n)), 1);
  }
  EXPECT_EQ(both.progress().samples, 300);
  EXPECT_EQ(both.progress().epochs[0], alone.progress().epochs[0]);
  EXPECT_GT(both.progress().epochs[1], 1);
}

TEST_F(MixedSourcesTest, WeightsAreRelative) {
  Loader shares = mixed(0.75, 0.25), counts = mixed(3, 1);
  for (int i = 0; i < 20; ++i) {
    expect_equal(shares.next({5, 24}), counts.next({5, 24}));
  }
}

TEST_F(MixedSourcesTest, ContinuesAtEverySample) {
  Loader straight = mixed();
  std::vector<Batch> rows;
  std::vector<LoaderState> states;
  for (std::size_t i = 0; i < 150; ++i) {
    states.push_back(straight.state());
    rows.push_back(straight.next({1, seq_len_of_sample(i)}));
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    Loader fresh = mixed();
    EXPECT_TRUE(fresh.restore(stored(states[i])).empty());
    for (std::size_t j = i; j < std::min(i + 5, rows.size()); ++j) {
      expect_equal(fresh.next({1, seq_len_of_sample(j)}), rows[j]);
    }
  }
}

TEST_F(MixedSourcesTest, NewWeightsHoldFromWhereTheyAreGiven) {
  Loader before = mixed(0.9, 0.1);
  before.next({100, 24});
  Loader after = mixed(0.5, 0.5);
  EXPECT_TRUE(after.restore(before.state()).empty());
  int64_t others = 0;
  for (int i = 0; i < 20; ++i) {
    others += is_other(after.next({1, 24}));
  }
  EXPECT_EQ(others, 10);
  EXPECT_EQ(after.progress().samples, 120);
}

TEST_F(MixedSourcesTest, ASourceThatTheStateDoesNotHaveStartsFromItsBeginning) {
  Loader one({{*store_}}, kOptions);
  one.next({10, 24});
  Loader two = mixed();
  EXPECT_EQ(two.restore(one.state()), std::vector<std::size_t>{1});
  EXPECT_EQ(two.progress().epochs[0], one.progress().epochs[0]);
  EXPECT_EQ(two.progress().epochs[1], 0);
}

}  // namespace
}  // namespace braid::testing
