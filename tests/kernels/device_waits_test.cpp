// Forward and backward passes of operations on a device without kernels of ours: how often a GPU's
// host thread would wait. A wait in a layer keeps the queue of the device empty.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/attention.h"
#include "kernels/compress.h"
#include "kernels/cross_entropy.h"
#include "kernels/experts.h"
#include "kernels/index_topk.h"
#include "kernels/indexer_kl.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using testing::normal_tensor;

at::Tensor on_device(const char* name, at::IntArrayRef shape) {
  return normal_tensor(name, shape).to(testing::strict_device()).requires_grad_(true);
}

at::Tensor numbers(std::vector<int64_t> values, at::IntArrayRef shape) {
  return at::tensor(values, at::kLong).view(shape).to(testing::strict_device());
}

template <class F>
int64_t waits_of(const F& loss) {
  return testing::strict_device_use([&] { loss().sum().backward(); }).number_of_waits();
}

// Three queries of two heads; four raw keys and two entries.
struct Visible {
  KeyRange window{numbers({0, 0, 1}, {1, 3}), numbers({1, 2, 4}, {1, 3})};
  KeyRange range{numbers({0, 0, 0}, {1, 3}), numbers({0, 1, 2}, {1, 3})};
  SeenEntries entries{range, {}}, chosen{range, numbers({-1, -1, 0, -1, 0, 1}, {1, 3, 2})};
};

TEST(DeviceWaits, OfAttentionAreNone) {
  const Visible visible;
  const auto q = on_device("q", {1, 3, 2, 4}), kv = on_device("kv", {1, 4, 4}),
             compressed = on_device("compressed", {1, 2, 4}), sink = on_device("sink", {2});
  for (const auto& seen : {visible.entries, visible.chosen}) {
    EXPECT_EQ(waits_of([&] { return attention(q, kv, compressed, sink, visible.window, seen, 1); }),
              0);
  }
}

TEST(DeviceWaits, OfTheIndexerAreNone) {
  const Visible visible;
  const IndexParts index{
      on_device("q", {1, 3, 2, 4}), on_device("keys", {1, 2, 4}), on_device("weight", {1, 3, 2})};
  const AttentionTeacher teacher{on_device("teacher q", {1, 3, 2, 4}),
                                 on_device("kv", {1, 4, 4}),
                                 on_device("compressed", {1, 2, 4}),
                                 on_device("sink", {2}),
                                 visible.window,
                                 1};
  for (const auto& seen : {visible.entries, visible.chosen}) {
    EXPECT_EQ(waits_of([&] { return indexer_kl(index, teacher, seen, 1).kl_sum; }), 0);
  }
  const auto use = testing::strict_device_use(
      [&] { index_topk(index.q_BSIH, index.keys_BCH, index.weight_BSI, visible.range, 4); });
  EXPECT_EQ(use.number_of_waits(), 0);
}

TEST(DeviceWaits, OfCompressionAreNone) {
  const auto projected = on_device("projected", {1, 4, 8}), ape = on_device("ape", {2, 4});
  const PooledRows pooled{numbers({0, 1, 2, 3}, {1, 2, 2}),
                          numbers({0, 0, 0, 1}, {1, 2, 2}),
                          numbers({0, 1}, {1, 2}) > 0};
  EXPECT_EQ(waits_of([&] { return compress(projected, ape, pooled); }), 0);
}

TEST(DeviceWaits, OfCrossEntropyAreNone) {
  const auto hidden = on_device("hidden", {4, 3}), head = on_device("head", {5, 3});
  const auto targets = numbers({0, 4, kIgnoredTarget, 1}, {4});
  EXPECT_EQ(waits_of([&] { return cross_entropy_sum(hidden, head, targets); }), 0);
  const auto use = testing::strict_device_use([&] { cross_entropy_each(hidden, head, targets); });
  EXPECT_EQ(use.number_of_waits(), 0);
}

TEST(DeviceWaits, OfRoutedExpertsWithoutKernelsIsOneForTheirNumbersOfRows) {
  const auto x = on_device("x", {3, 4}), weights = on_device("weights", {3, 2}),
             w1 = on_device("w1", {4, 5, 4}), w2 = on_device("w2", {4, 4, 5}),
             w3 = on_device("w3", {4, 5, 4});
  const auto experts = numbers({0, 2, 2, 3, 3, 0}, {3, 2});
  EXPECT_EQ(waits_of([&] { return routed_experts(x, experts, weights, w1, w2, w3, 4); }), 1);
}

}  // namespace
}  // namespace braid
