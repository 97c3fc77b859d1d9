// Twins by chunks of queries: the numbers of all queries at once, in the memory of a chunk.
#include "kernels/query_chunks.h"

#include <functional>

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/attention.h"
#include "kernels/index_topk.h"
#include "kernels/indexer_kl.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::expect_close;

struct Sizes {
  int64_t B, S, N, H, C;
};

at::Tensor leaf(const std::string& name, at::IntArrayRef sizes, at::Device device) {
  return testing::normal_tensor(name, sizes).to(device).requires_grad_(true);
}

// The query and some before it.
KeyRange window_of(const Sizes& s, at::Device device) {
  const auto end = at::arange(1, s.S + 1, at::kLong).expand({s.B, s.S});
  return KeyRange{(end - 5).clamp_min(0), end}.to(device);
}

SeenEntries chosen_of(const Sizes& s, at::Device device) {
  return entries_of(testing::normal_tensor("seen", {s.B, s.S, s.C}) > 0).to(device);
}

// Those that are complete.
SeenEntries range_of(const Sizes& s, at::Device device) {
  const auto end = (at::arange(s.S, at::kLong) * s.C).div(s.S, "floor").expand({s.B, s.S});
  return SeenEntries{{at::zeros_like(end), end}, {}}.to(device);
}

// q, kv, compressed, sink; index q, weights, keys.
std::vector<at::Tensor> inputs_of(const Sizes& s, at::Device device) {
  return {leaf("q", {s.B, s.S, s.N, s.H}, device),
          leaf("kv", {s.B, s.S, s.H}, device),
          leaf("compressed", {s.B, s.C, s.H}, device),
          leaf("sink", {s.N}, device),
          leaf("index q", {s.B, s.S, 2, 3}, device),
          leaf("index weights", {s.B, s.S, 2}, device),
          leaf("index keys", {s.B, s.C, 3}, device)};
}

std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& in) {
  std::vector<at::Tensor> gradients;
  for (const auto& each : in) {
    gradients.push_back(each.grad().defined() ? each.grad().cpu() : at::Tensor());
    each.mutable_grad().reset();
  }
  return gradients;
}

void expect_the_same(const std::vector<at::Tensor>& got, const std::vector<at::Tensor>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(got[i].defined(), want[i].defined()) << i;
    if (want[i].defined()) {
      expect_close(text("result ", i), got[i], want[i], {.relative = 1e-14});
    }
  }
}

constexpr Sizes kSizes{2, 13, 3, 4, 6};

TEST(QueryChunks, OfAttentionHaveTheNumbersOfAllQueriesAtOnce) {
  for (const auto device : testing::devices()) {
    const auto in = inputs_of(kSizes, device);
    for (const auto& entries : {chosen_of(kSizes, device), range_of(kSizes, device)}) {
      const auto results = [&](int64_t at_once) {
        const auto y = attention_reference_in_chunks(
            in[0], in[1], in[2], in[3], window_of(kSizes, device), entries, 0.7, at_once);
        y.backward(leaf("dy", y.sizes(), device).detach());
        auto all = gradients_of(in);
        all.push_back(y.detach().cpu());
        return all;
      };
      const auto whole = results(kSizes.S);
      for (const int64_t at_once : {1, 5, 12}) {
        SCOPED_TRACE(text(device, ", ", at_once, " at once"));
        expect_the_same(results(at_once), whole);
      }
    }
  }
}

TEST(QueryChunks, OfTheIndexersLossHaveTheNumbersOfAllQueriesAtOnce) {
  for (const auto device : testing::devices()) {
    const auto in = inputs_of(kSizes, device);
    const AttentionTeacher teacher{in[0], in[1], in[2], in[3], window_of(kSizes, device), 0.7};
    for (const auto& seen : {chosen_of(kSizes, device), range_of(kSizes, device)}) {
      const auto results = [&](int64_t at_once) {
        const auto sums =
            indexer_kl_reference_in_chunks({in[4], in[6], in[5]}, teacher, seen, 2, at_once);
        (0.5 * sums.kl_sum).backward();
        EXPECT_FALSE(sums.recall_sum.requires_grad());
        auto all = gradients_of(in);
        EXPECT_FALSE(all[0].defined());  // the teacher learns nothing
        all.push_back(sums.kl_sum.detach().cpu());
        all.push_back(sums.recall_sum.cpu());
        return all;
      };
      const auto whole = results(kSizes.S);
      for (const int64_t at_once : {1, 5, 12}) {
        SCOPED_TRACE(text(device, ", ", at_once, " at once"));
        expect_the_same(results(at_once), whole);
      }
    }
  }
}

TEST(QueryChunks, OfTheIndexersChoiceChooseTheSame) {
  for (const auto device : testing::devices()) {
    const auto in = inputs_of(kSizes, device);
    const auto visible = range_of(kSizes, device).range;
    const auto chosen = [&](int64_t at_once) {
      return index_topk_reference_in_chunks(in[4], in[6], in[5], visible, 2, at_once).cpu();
    };
    for (const int64_t at_once : {1, 5, 12}) {
      expect_bitwise_equal(text(at_once, " at once"), chosen(at_once), chosen(kSizes.S));
    }
  }
}

TEST(QueryChunks, AreAsLargeAsTheirScoresAllow) {
  EXPECT_EQ(queries_at_once(100, 1 << 20, at::kFloat), 64);
  EXPECT_EQ(queries_at_once(100, 1 << 20, at::kDouble), 32);
  EXPECT_EQ(queries_at_once(10, 1 << 20, at::kFloat), 10);
  EXPECT_EQ(queries_at_once(100, int64_t{1} << 40, at::kFloat), 1);
  EXPECT_EQ(queries_at_once(100, 0, at::kFloat), 100);
  EXPECT_EQ(queries_at_once(0, 0, at::kFloat), 1);
}

// ---- Memory ----

// The most bytes that f has beside what was there, and what stays, in scores of a chunk.
double inner_tensors(const std::function<void()>& f, double scores) {
  auto* allocator = c10::getDeviceAllocator(testing::strict_device().type());
  allocator->resetPeakStats(0);
  f();
  const auto bytes =
      allocator->getDeviceStats(0)
          .allocated_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
  return static_cast<double>(bytes.peak - bytes.current) / scores;
}

TEST(QueryChunks, HaveTheMemoryOfOneChunk) {
  constexpr Sizes kLong{1, 512, 8, 4, 128};
  constexpr int64_t kAtOnce = 16;
  const auto device = testing::strict_device();
  const auto in = inputs_of(kLong, device);
  const auto window = window_of(kLong, device);
  const auto entries = chosen_of(kLong, device);
  const double scores = 8.0 * kAtOnce * kLong.N * (kLong.S + kLong.C);
  const auto at_most = [](const std::function<void()>& f, double scores_of_chunk) {
    EXPECT_LT(inner_tensors(f, scores_of_chunk), 4);
  };
  at::Tensor y;
  at_most(
      [&] {
        y = attention_reference_in_chunks(
            in[0], in[1], in[2], in[3], window, entries, 0.7, kAtOnce);
      },
      scores);
  at_most([&] { y.sum().backward(); }, scores);
  IndexerKl loss;
  at_most(
      [&] {
        loss = indexer_kl_reference_in_chunks(
            {in[4], in[6], in[5]}, {in[0], in[1], in[2], in[3], window, 0.7}, entries, 2, kAtOnce);
      },
      scores);
  at_most([&] { loss.kl_sum.backward(); }, scores);
  constexpr int64_t kHeads = 8;
  const auto q = leaf("many heads", {kLong.B, kLong.S, kHeads, 3}, device),
             weights = leaf("their weights", {kLong.B, kLong.S, kHeads}, device);
  at_most(
      [&] {
        index_topk_reference_in_chunks(
            q, in[6], weights, range_of(kLong, device).range, 5, kAtOnce);
      },
      8.0 * kAtOnce * kHeads * kLong.C);
}

}  // namespace
}  // namespace braid
