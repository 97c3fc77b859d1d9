#include "model/compressor.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/model/support.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::normal_tensor;

constexpr int64_t kLength = 23, kWidth = 10, kChannels = 8;

struct Pool {
  Pool(AttentionKind kind, int64_t ratio) : parameters(at::kDouble, 1, 0.3) {
    config = testing::tiny_config({kind});
    config.compress_ratios = {ratio};
    compressor.emplace(
        Scope(parameters, ""), kWidth, kChannels, ratio, kind == AttentionKind::kCsa, 1e-6);
    for (const auto& each : parameters.all()) {
      each.value.detach().add_(normal_tensor("noise of " + each.name, each.value.sizes()), 0.3);
    }
    const auto tokens = whole_documents(at::zeros({1, kLength}, at::kLong));
    geometry = packed_geometry(config, tokens.documents_BS, tokens.positions_BS, at::kDouble);
  }
  at::Tensor operator()(const at::Tensor& h_BSD) const {
    return compressor->forward(h_BSD, geometry, nullptr);
  }

  Parameters parameters;
  ModelConfig config;
  Geometry geometry;
  std::optional<Compressor> compressor;
};

// Entries that change when token t does.
std::vector<int64_t> entries_that_see(const Pool& pool, int64_t t) {
  const auto h = normal_tensor("h", {1, kLength, kWidth});
  auto other = h.clone();
  other.select(1, t).add_(1);
  const auto moved = (pool(h) - pool(other)).abs().amax(-1)[0];
  std::vector<int64_t> result;
  for (int64_t w = 0; w < moved.size(0); ++w) {
    if (moved[w].item<double>() != 0) {
      result.push_back(w);
    }
  }
  return result;
}

TEST(Compressor, OfHcaEntriesPoolTheirOwnTokensOnly) {
  for (const int64_t ratio : {1, 4, 6, 23, 24}) {
    const Pool pool(AttentionKind::kHca, ratio);
    const int64_t count = kLength / ratio;
    EXPECT_EQ(pool(normal_tensor("h", {1, kLength, kWidth})).sizes(),
              at::IntArrayRef({1, count, kChannels}));
    for (int64_t t = 0; t < kLength; ++t) {
      const auto own = t / ratio;
      EXPECT_EQ(entries_that_see(pool, t), own < count ? std::vector{own} : std::vector<int64_t>{})
          << "ratio " << ratio << ", token " << t;
    }
  }
}

TEST(Compressor, OfCsaEntriesPoolTheWindowBeforeTheirOwnToo) {
  for (const int64_t ratio : {3, 4}) {
    const Pool pool(AttentionKind::kCsa, ratio);
    const int64_t count = kLength / ratio;
    for (int64_t t = 0; t < kLength; ++t) {
      std::vector<int64_t> want;
      for (int64_t w = 0; w < count; ++w) {
        if ((w - 1) * ratio <= t && t < (w + 1) * ratio) {
          want.push_back(w);
        }
      }
      EXPECT_EQ(entries_that_see(pool, t), want) << "ratio " << ratio << ", token " << t;
    }
  }
}

// A softmax over tokens: equal gates average the keys, and the norm makes the entry of unit size.
TEST(Compressor, OfEqualGatesAveragesTheKeys) {
  const Pool pool(AttentionKind::kHca, 4);
  for (const auto& [name, value, trained, quantized, in_base, is_rounded] : pool.parameters.all()) {
    if (name == "ape" || name == "wgate.weight") {
      value.detach().zero_();
    } else if (name == "norm.weight") {
      value.detach().fill_(1);
    }
  }
  const auto h = normal_tensor("h", {1, kLength, kWidth});
  const auto mean =
      h.narrow(1, 0, 20).view({1, 5, 4, kWidth}).mean(2).matmul(pool.parameters.all()[1].value.t());
  const auto want = mean * (mean.square().mean(-1, true) + 1e-6).rsqrt();
  const int64_t passed = kChannels - pool.config.qk_rope_head_dim;  // the rest is rotated
  testing::expect_close(
      "entries", pool(h).narrow(-1, 0, passed), want.narrow(-1, 0, passed), {.absolute = 1e-13});
  testing::expect_close(
      "entry at position 0", pool(h).select(1, 0), want.select(1, 0), {.absolute = 1e-13});
}

}  // namespace
}  // namespace braid
