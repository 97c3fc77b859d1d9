#include "plan/decode_cost.h"

#include <gtest/gtest.h>

#include "core/config.h"
#include "plan/flops.h"
#include "run/config.h"

namespace braid {
namespace {

ModelConfig released(const std::string& name) {
  return load_config<RunConfig>(text(BRAID_TEST_DATA, "/../../configs/models/", name, ".yaml"))
      .value.model;
}

constexpr int64_t kMillion = 1 << 20;

// DeepSeek-V4 report, abstract and figure 1: at 1M tokens Pro takes 27 % of the operations and 10 %
// of the KV cache of V3.2, Flash 10 % and 7 %.
TEST(DecodeCost, AtAMillionTokensIsThePublishedShareOfV32) {
  const auto v32 = v32_decode_cost(kMillion);
  const auto pro = decode_cost(released("pro"), kMillion),
             flash = decode_cost(released("flash"), kMillion);
  EXPECT_NEAR(pro.fp8_flops / v32.fp8_flops, 0.27, 0.01);
  EXPECT_NEAR(flash.fp8_flops / v32.fp8_flops, 0.10, 0.01);
  EXPECT_NEAR(pro.cache_bytes / v32.cache_bytes, 0.10, 0.01);
  EXPECT_NEAR(flash.cache_bytes / v32.cache_bytes, 0.07, 0.01);
}

TEST(DecodeCost, OfAllTokensIsThatOfTheSequence) {
  ModelConfig config;
  config.num_nextn_predict_layers = 0;
  double flops = 0;
  for (int64_t context = 1; context <= 100; ++context) {
    flops += decode_cost(config, context).flops;
  }
  const auto whole = forward_products(config, 100);
  const double products = whole.attention + whole.attention_scores + whole.compressor +
                          whole.indexer + whole.indexer_scores + whole.router +
                          whole.routed_experts + whole.shared_experts + whole.mhc + whole.head;
  EXPECT_NEAR(flops, 2 * products, 1e-9 * flops);
}

TEST(DecodeCost, AWindowsCacheStopsGrowing) {
  ModelConfig config;
  config.layer_types = std::vector<AttentionKind>(6, AttentionKind::kWindow);
  const double key = 32 - 16 + 2 * 16;
  EXPECT_EQ(decode_cost(config, 8).cache_bytes, 6 * 8 * key);
  EXPECT_EQ(decode_cost(config, 1000).cache_bytes, 6 * 32 * key);
  EXPECT_EQ(decode_cost(config, 1000).flops, decode_cost(config, 2000).flops);
}

}  // namespace
}  // namespace braid
