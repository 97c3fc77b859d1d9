// Generation with a state gives what one pass over the whole text gives, however the text is cut.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/model/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::random_ids;
using testing::randomized;

constexpr int64_t kLength = 26;

// Logits of the chunks, one after the other; the sizes must sum to the length.
at::Tensor decoded(const Transformer& model,
                   const at::Tensor& ids_BS,
                   const std::vector<int64_t>& chunks) {
  DecodeState state;
  std::vector<at::Tensor> logits;
  for (const int64_t size : chunks) {
    const auto hidden = model.forward(ids_BS.narrow(1, state.past, size), state);
    logits.push_back(model.logits(hidden.final_BSD));
  }
  EXPECT_EQ(state.past, ids_BS.size(1));
  return at::cat(logits, 1);
}

std::vector<int64_t> prefill_then_single(int64_t prefill, int64_t length) {
  std::vector<int64_t> chunks(length - prefill + 1, 1);
  chunks[0] = prefill;
  return chunks;
}

void expect_decode_equals_forward(const std::string& name, const Transformer& model) {
  const at::NoGradGuard no_grad;
  const auto ids = random_ids(2, kLength, model.config().vocab_size);
  const auto want = testing::logits_of(model, ids);
  // Around the ratios 4 and 6 and the window 5, their multiples, and everything at once.
  for (const int64_t prefill : {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 17, 24, 25, 26}) {
    expect_close(text(name, ", prefill ", prefill),
                 decoded(model, ids, prefill_then_single(prefill, kLength)),
                 want,
                 {.absolute = 1e-12});
  }
  for (const auto& chunks : std::vector<std::vector<int64_t>>{{13, 13},
                                                              {1, 25},
                                                              {3, 1, 4, 1, 5, 9, 2, 1},
                                                              {2, 2, 2, 2, 2, 2, 2, 12},
                                                              {7, 7, 7, 5},
                                                              {4, 4, 4, 4, 4, 6}}) {
    expect_close(text(name, ", chunks ", at::IntArrayRef(chunks)),
                 decoded(model, ids, chunks),
                 want,
                 {.absolute = 1e-12});
  }
}

TEST(Decode, EqualsTheFullForwardForEveryLayerKind) {
  for (const auto& [name, layers] : testing::layer_mixes()) {
    expect_decode_equals_forward(name, randomized(testing::tiny_config(layers)));
  }
}

TEST(Decode, EqualsTheFullForwardForAnyTopk) {
  using enum AttentionKind;
  for (const std::optional<int64_t> topk : {std::optional<int64_t>(1),
                                            std::optional<int64_t>(5),
                                            std::optional<int64_t>(100),
                                            std::optional<int64_t>()}) {
    auto config = testing::tiny_config({kCsa, kCsa});
    config.index_topk = topk;
    expect_decode_equals_forward(text("top-", topk ? *topk : -1), randomized(config));
  }
}

// One indexer head gives many scores of exactly 0; without weights all of them are.
TEST(Decode, EqualsTheFullForwardWhereIndexScoresTie) {
  using enum AttentionKind;
  auto config = testing::tiny_config({kCsa, kCsa});
  config.index_n_heads = 1;
  auto model = randomized(config);
  expect_decode_equals_forward("one indexer head", model);
  for (const auto* layer : {"layers.0", "layers.1"}) {
    testing::parameter(model, text(layer, ".attn.indexer.weights_proj.weight")).detach().zero_();
  }
  expect_decode_equals_forward("all scores tie", model);
}

TEST(Decode, EqualsTheFullForwardForEveryResidualKindAndASmallestWindow) {
  for (const auto kind : {ResidualKind::kPlain, ResidualKind::kHc}) {
    auto config = testing::tiny_config();
    config.residual = kind;
    expect_decode_equals_forward(text("residual ", static_cast<int>(kind)), randomized(config));
  }
  auto config = testing::tiny_config();
  config.sliding_window = 1;
  expect_decode_equals_forward("window 1", randomized(config));
}

TEST(Decode, KeepsNoMoreThanLaterTokensNeed) {
  const at::NoGradGuard no_grad;
  const auto config =
      testing::tiny_config({AttentionKind::kWindow, AttentionKind::kCsa, AttentionKind::kFull});
  const auto model = randomized(config);
  const auto ids = random_ids(1, 50, config.vocab_size);
  DecodeState state;
  for (int64_t t = 0; t < 50; ++t) {
    model.forward(ids.narrow(1, t, 1), state);
  }
  EXPECT_EQ(state.layers[0].kv_BUH.size(1), config.sliding_window - 1);
  EXPECT_EQ(state.layers[1].compressor.entries_BCH.size(1), 50 / 4);
  EXPECT_LE(state.layers[1].compressor.projected_BUX.size(1), 2 * 4);
  EXPECT_LE(state.layers[1].indexer.projected_BUX.size(1), 2 * 4);
  EXPECT_EQ(state.layers[2].kv_BUH.size(1), 50);
}

}  // namespace
}  // namespace braid
