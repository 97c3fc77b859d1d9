#include "kernels/index_topk.h"

#include <limits>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/precision.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using namespace testing;

struct Case {
  const char* name;
  int64_t B, S, I, H, C, k;
};

// Query s of two documents sees the entries of its own that are complete, as many as fit.
KeyRange visible_of(const Case& c) {
  const auto step = at::arange(c.S, at::kLong);
  const auto first = (step >= c.S / 2).to(at::kLong) * (c.C / 3);
  const auto end = (first + ((step % (c.S / 2 + 1) + 1) * c.C).div(c.S, "floor")).clamp_max(c.C);
  return {first.expand({c.B, c.S}), end.expand({c.B, c.S})};
}

const std::vector<Case> kCases = {{"small", 1, 7, 2, 4, 5, 2},
                                  {"more picks than entries", 2, 9, 1, 3, 4, 6},
                                  {"one pick", 1, 40, 3, 8, 30, 1},
                                  {"blocks of entries", 2, 50, 4, 16, 1300, 64},
                                  {"odd sizes", 1, 33, 5, 7, 517, 33},
                                  {"many heads", 1, 3, 70, 20, 140, 20},
                                  {"blocks of tiles", 1, 4, 70, 24, 1100, 30},
                                  {"wide heads", 1, 2, 64, 128, 90, 20}};

TEST(IndexTopk, ChoosesWhatAllScoresWouldChoose) {
  for (const auto& c : kCases) {
    for (const auto type : {at::kBFloat16, at::kFloat, at::kDouble}) {
      // Small integers: scores are exact in any order of summation, and many are equal.
      const auto integers = [&](const char* what, std::vector<int64_t> shape) {
        return (normal_tensor(text(c.name, what), shape) * 1.5).round().to(type);
      };
      const auto q = integers("q", {c.B, c.S, c.I, c.H}), keys = integers("keys", {c.B, c.C, c.H}),
                 weights = widened(integers("weights", {c.B, c.S, c.I}));
      const auto visible = visible_of(c);
      const auto chosen = index_topk(q, keys, weights, visible, c.k);
      EXPECT_TRUE(chosen.equal(index_topk_reference(q, keys, weights, visible, c.k))) << c.name;
      EXPECT_TRUE(chosen.equal(index_topk(q, keys, weights, visible, c.k))) << c.name;
      at::set_num_threads(2);
      EXPECT_TRUE(chosen.equal(index_topk(q, keys, weights, visible, c.k))) << c.name;
      at::set_num_threads(1);
      for (const auto& device : devices()) {
        const auto there =
            index_topk(q.to(device), keys.to(device), weights.to(device), visible.to(device), c.k);
        EXPECT_EQ(there.device(), device);
        EXPECT_TRUE(there.cpu().equal(chosen)) << c.name << " on " << device;
      }
      const auto expect_the_same = [&](const KernelsOnHost& kernels) {
        const auto to = [](const auto& x) { return x.to(strict_device()); };
        const auto there = index_topk(to(q), to(keys), to(weights), to(visible), c.k);
        EXPECT_TRUE(there.cpu().equal(chosen)) << c.name << " by kernels/cuda";
        EXPECT_EQ(kernels.launches(), type == at::kDouble ? 0 : 2);
      };
      for (const std::uint64_t order : {0, 1, 2}) {
        expect_the_same(KernelsOnHost(order));
      }
      expect_the_same(KernelsOnHost(/*order=*/0, /*compute_capability=*/8));
    }
  }
}

TEST(IndexTopk, DependsOnNothingThatAQueryDoesNotSee) {
  const auto& c = kCases[3];
  const auto q = normal_tensor("q", {c.B, c.S, c.I, c.H}, at::kFloat),
             weights = normal_tensor("w", {c.B, c.S, c.I}, at::kFloat);
  auto keys = normal_tensor("keys", {c.B, c.C, c.H}, at::kFloat);
  const auto visible = visible_of(c);
  const auto before = index_topk(q, keys, weights, visible, c.k);
  const int64_t s = 20, end = visible.end_BS[0][s].item<int64_t>();
  keys.slice(1, end).fill_(1000);
  EXPECT_TRUE(index_topk(q, keys, weights, visible, c.k).select(1, s).equal(before.select(1, s)));
}

TEST(IndexTopk, OfScoresThatAreNotNumbersIsStillAChoice) {
  const auto& c = kCases[3];
  const auto q = at::full({c.B, c.S, c.I, c.H}, std::numeric_limits<float>::quiet_NaN()),
             keys = at::ones({c.B, c.C, c.H}), weights = at::ones({c.B, c.S, c.I});
  const auto visible = visible_of(c);
  const auto seen = mask_of(visible, c.C);
  const auto expect_choice = [&](const at::Tensor& chosen) {
    const auto got = mask_of(SeenEntries{visible, chosen}, c.C);
    EXPECT_FALSE(got.logical_and(seen.logical_not()).any().item<bool>());
    EXPECT_TRUE(got.sum(-1).equal(seen.sum(-1).clamp_max(c.k)));
  };
  expect_choice(index_topk(q, keys, weights, visible, c.k));
  const KernelsOnHost kernels;
  const auto to = [](const auto& x) { return x.to(strict_device()); };
  expect_choice(index_topk(to(q), to(keys), to(weights), to(visible), c.k).cpu());
  EXPECT_EQ(kernels.launches(), 2);
}

TEST(IndexTopk, TakesOtherEntriesBeforeOnesWhoseScoreIsNoNumber) {
  const auto& c = kCases[3];
  const int64_t entry = 1;
  const auto q = at::ones({c.B, c.S, c.I, c.H}), weights = at::ones({c.B, c.S, c.I});
  auto keys = at::ones({c.B, c.C, c.H});
  keys.select(1, entry).fill_(std::numeric_limits<float>::quiet_NaN());
  const auto visible = visible_of(c);
  const auto has_others = mask_of(visible, c.C).sum(-1) > c.k;
  ASSERT_TRUE(has_others.logical_and(visible.first_BS <= entry).any().item<bool>());
  const auto expect_others = [&](const at::Tensor& chosen) {
    EXPECT_FALSE((chosen == entry).any(-1).logical_and(has_others).any().item<bool>());
  };
  expect_others(index_topk(q, keys, weights, visible, c.k));
  const KernelsOnHost kernels;
  const auto to = [](const auto& x) { return x.to(strict_device()); };
  expect_others(index_topk(to(q), to(keys), to(weights), to(visible), c.k).cpu());
  EXPECT_EQ(kernels.launches(), 2);
}

TEST(IndexTopk, RefusesShapesThatDoNotFit) {
  const auto q = at::ones({1, 4, 2, 3}), keys = at::ones({1, 5, 3}), weights = at::ones({1, 4, 2});
  const KeyRange visible{at::zeros({1, 4}, at::kLong), at::ones({1, 4}, at::kLong)};
  for (const auto& message :
       {error_of([&] { index_topk(q, keys.narrow(2, 0, 2), weights, visible, 2); }),
        error_of([&] { index_topk(q, keys, weights.narrow(1, 0, 2), visible, 2); }),
        error_of([&] { index_topk(q, keys, weights, visible, 0); }),
        error_of([&] { index_topk(q, keys.to(at::kBFloat16), weights, visible, 2); })}) {
    EXPECT_TRUE(message.starts_with("[index_topk] ")) << message;
  }
}

TEST(EntriesOf, AndMaskOfAreInverse) {
  const auto mask = normal_tensor("mask", {2, 6, 9}) > 0.3;
  EXPECT_TRUE(mask_of(entries_of(mask), 9).equal(mask));
  const auto none = at::zeros({1, 2, 3}, at::kBool);
  EXPECT_TRUE(mask_of(entries_of(none), 3).equal(none));
}

}  // namespace
}  // namespace braid
