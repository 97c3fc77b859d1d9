#include "plan/flops.h"

#include <ATen/ATen.h>

#include "tests/train/tiny_run.h"

namespace braid {
namespace {

const std::string kModels = std::string(BRAID_TEST_DATA) + "/../../configs/models/";

/// How many keys the queries of one sequence see, counted one by one.
double visible_pairs(const ModelConfig& config, const LayerConfig& layer, int64_t S) {
  double pairs = 0;
  for (int64_t t = 0; t < S; ++t) {
    for (int64_t s = 0; s <= t; ++s) {
      pairs += layer.attention == AttentionKind::kFull || t - s < config.sliding_window;
    }
    int64_t entries = 0;
    for (int64_t last = layer.ratio - 1; layer.compresses() && last <= t; last += layer.ratio) {
      ++entries;
    }
    const bool selects = layer.attention == AttentionKind::kCsa && config.index_topk.has_value();
    pairs += static_cast<double>(selects ? std::min(entries, *config.index_topk) : entries);
  }
  return pairs;
}

TEST(Flops, AttentionScoresCountTheVisiblePairs) {
  auto config = testing::tiny_model();
  config.num_hidden_layers = 1;
  config.num_nextn_predict_layers = 0;
  config.index_topk = 3;
  for (const auto kind :
       {AttentionKind::kWindow, AttentionKind::kFull, AttentionKind::kCsa, AttentionKind::kHca}) {
    for (const int64_t ratio : {4, 5}) {
      for (const int64_t S : {1, 3, 4, 5, 8, 11, 12, 16, 29, 40}) {
        config.compress_ratios = {ratio};
        config.layer_types = {kind};
        const double per_pair =
            2 * static_cast<double>(config.num_attention_heads * config.head_dim);
        EXPECT_EQ(forward_products(config, S).attention_scores,
                  per_pair * visible_pairs(config, config.layer(0), S))
            << "S " << S << ", ratio " << ratio << ", kind " << static_cast<int>(kind);
      }
    }
  }
}

TEST(Flops, OfTheReleasedModelsAreThePublishedOnesForTraining) {
  struct Case {
    const char* name;
    int64_t seq_len;
    double giga_per_token;
  };
  for (const auto& [name, seq_len, want] : {Case{"flash", 4096, 84.4},
                                            Case{"flash", 65536, 89.9},
                                            Case{"flash", 1048576, 162.5},
                                            Case{"pro", 4096, 310.0},
                                            Case{"pro", 65536, 331.0},
                                            Case{"pro", 1048576, 485.7}}) {
    const auto p = forward_products(load_run_config(kModels + name + ".yaml", {}).model, seq_len);
    const double trained = p.attention + p.attention_scores + p.compressor + p.router +
                           p.routed_experts + p.shared_experts + p.mhc + p.head;
    const double flops =
        (6 * trained + 2 * (p.indexer + p.indexer_scores)) / static_cast<double>(seq_len);
    EXPECT_NEAR(flops / 1e9, want, 0.05) << name << " at " << seq_len;
  }
}

TEST(Flops, TheMtpBlockIsALayerWithProjectionsAndTheHead) {
  auto config = testing::tiny_model();
  config.num_nextn_predict_layers = 1;
  constexpr int64_t kSeqLen = 8;
  const auto products = forward_products(config, kSeqLen);

  auto block = config;
  block.num_hidden_layers = 1;
  block.num_nextn_predict_layers = 0;
  block.layer_types = {AttentionKind::kWindow};
  const auto layer = forward_products(block, kSeqLen);
  // e_proj once and h_proj for each of the two streams, D = 16.
  const double projections = kSeqLen * 3 * 16 * 16;
  EXPECT_EQ(products.mtp,
            layer.attention + layer.attention_scores + layer.router + layer.routed_experts +
                layer.shared_experts + layer.mhc + layer.head + projections);
}

TEST(Flops, NewtonSchulzCountsEveryMatrixAndIteration) {
  const auto meta = at::device(at::kMeta);
  const std::vector<NamedTensor> parameters = {
      {"layers.0.ffn.experts.*.w1.weight", at::empty({4, 6, 10}, meta)},
      {"layers.0.attn.wo_a.weight", at::empty({8, 12}, meta)},
      {"norm.weight", at::empty({8}, meta)},
  };
  const auto groups = group_parameters(parameters, {.num_output_groups = 2}, {});
  // Four of 6 x 10 and two of 4 x 12.
  const double per_iteration =
      4 * 2 * (2 * 6 * 6 * 10 + 6 * 6 * 6) + 2 * 2 * (2 * 4 * 4 * 12 + 4 * 4 * 4);
  const MuonConfig ten{.newton_schulz_gram = GramForm::kNever};
  EXPECT_EQ(newton_schulz_flops(groups, ten, TrainedParts::all()), 10 * per_iteration);
  const MuonConfig three{.newton_schulz_steps = 3,
                         .newton_schulz_final_steps = 0,
                         .newton_schulz_gram = GramForm::kNever};
  EXPECT_EQ(newton_schulz_flops(groups, three, TrainedParts::all()), 3 * per_iteration);
  EXPECT_EQ(newton_schulz_flops(groups, three, {TrainedPart::kIndexer}), 0);
  const MuonConfig gram{.newton_schulz_gram = GramForm::kAlways};
  const double per_two =
      4 * (4 * 6 * 6 * 10 + 10 * 6 * 6 * 6) + 2 * (4 * 4 * 4 * 12 + 10 * 4 * 4 * 4);
  EXPECT_EQ(newton_schulz_flops(groups, gram, TrainedParts::all()), 5 * per_two);
  // Both shapes are long enough.
  EXPECT_EQ(newton_schulz_flops(groups, {}, TrainedParts::all()), 5 * per_two);
}

}  // namespace
}  // namespace braid
