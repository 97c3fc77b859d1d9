#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/model/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

// Released window and ratios; lengths around them. By causality a shorter sequence gives the first
// logits of the longest one.
TEST(SequenceLength, OfAnySizeGivesTheLogitsOfThePrefix) {
  auto config = testing::tiny_config();
  using enum AttentionKind;
  config.layer_types = {kWindow, kCsa, kHca, kFull};
  config.compress_ratios = {0, 4, 128, 0};
  config.sliding_window = 128;
  config.index_topk = 7;
  const auto model = testing::randomized(config);
  const auto ids = testing::random_ids(1, 300, config.vocab_size);
  const auto longest = testing::logits_of(model, ids).detach();
  for (const int64_t S : {1, 3, 4, 5, 127, 128, 129, 255, 256, 300}) {
    testing::clear_gradients(model);
    const auto logits = testing::logits_of(model, ids.narrow(1, 0, S));
    testing::expect_close(text("length ", S), logits, longest.narrow(1, 0, S), {.absolute = 1e-11});
    logits.square().mean().backward();
    for (const auto& p : model.parameters().all()) {
      const auto& name = p.name;
      const auto& value = p.value;
      EXPECT_TRUE(!value.grad().defined() || value.grad().isfinite().all().item<bool>())
          << name << " at length " << S;
    }
    // Compressors of fewer tokens than their ratio have no entry, and so no gradient.
    const auto hca = testing::parameter(model, "layers.2.attn.compressor.wkv.weight").grad();
    EXPECT_EQ(hca.defined() && hca.abs().max().item<double>() > 0, S >= 128) << S;
  }
}

TEST(SequenceLength, MayBeOneWithTheMtpBlock) {
  auto config = testing::tiny_config();
  config.num_nextn_predict_layers = 1;
  const auto model = testing::randomized(config);
  const auto tokens = whole_documents(testing::random_ids(2, 1, config.vocab_size));
  const auto hidden = model.mtp_forward(tokens, model.forward(tokens));
  EXPECT_EQ(hidden.sizes(), at::IntArrayRef({2, 1, config.hidden_size}));
  EXPECT_TRUE(hidden.isfinite().all().item<bool>());
}

}  // namespace
}  // namespace braid
