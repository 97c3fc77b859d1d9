#include "plan/flops.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "optim/muon.h"

namespace braid {
namespace {

// Sums over the queries t = 0..S-1 of what each sees.
double window_pairs(int64_t S, int64_t window) {
  const auto w = static_cast<double>(std::min(S, window));
  return w * (w + 1) / 2 + (static_cast<double>(S) - w) * w;
}

// floor((t + 1) / R) entries are complete at token t.
double entry_pairs(int64_t S, int64_t R) {
  const auto whole = static_cast<double>(S / R), rest = static_cast<double>(S % R);
  return static_cast<double>(R) * whole * (whole - 1) / 2 + whole * (rest + 1);
}

double chosen_entry_pairs(int64_t S, int64_t R, int64_t topk) {
  const int64_t all_chosen = std::min(S, R * topk);
  return entry_pairs(all_chosen, R) + static_cast<double>((S - all_chosen) * topk);
}

double residual_products(const ModelConfig& config) {
  const auto D = static_cast<double>(config.hidden_size), M = static_cast<double>(config.hc_mult);
  const double mixing = (M * M + 2 * M) * D;
  switch (config.residual) {
    case ResidualKind::kPlain:
      return 0;
    case ResidualKind::kHc:
      return M * D * (1 + M) + M * D + mixing;
    case ResidualKind::kMhc:
      return (2 + M) * M * M * D + mixing;
  }
  return 0;
}

double stream_head_products(const ModelConfig& config) {
  const auto D = static_cast<double>(config.hidden_size), M = static_cast<double>(config.hc_mult);
  return config.residual == ResidualKind::kMhc ? M * M * D : 0;
}

void add_attention(const ModelConfig& config,
                   const LayerConfig& layer,
                   int64_t seq_len,
                   bool dense,
                   ForwardProducts& products) {
  const auto wide = [](int64_t size) { return static_cast<double>(size); };
  const double S = wide(seq_len), D = wide(config.hidden_size), L = wide(config.q_lora_rank),
               H = wide(config.head_dim), NH = wide(config.num_attention_heads) * H,
               O = wide(config.o_lora_rank), GO = wide(config.o_groups) * O;
  products.attention += S * (D * L + L * NH + D * H + NH * O + GO * D);
  double pairs = window_pairs(seq_len, layer.window.value_or(seq_len));
  if (layer.attention == AttentionKind::kHca) {
    products.compressor += S * 2 * D * H;
    pairs += entry_pairs(seq_len, layer.ratio);
  } else if (layer.attention == AttentionKind::kCsa) {
    const double indexer_H = wide(config.index_head_dim),
                 all_heads = wide(config.index_n_heads) * indexer_H;
    const double entries = entry_pairs(seq_len, layer.ratio);
    products.compressor += S * 2 * D * 2 * H;
    products.indexer +=
        S * (2 * D * 2 * indexer_H + L * all_heads + wide(config.index_n_heads) * D);
    products.indexer_scores += all_heads * entries;
    pairs += config.index_topk && !dense
                 ? chosen_entry_pairs(seq_len, layer.ratio, *config.index_topk)
                 : entries;
  }
  products.attention_scores += 2 * NH * pairs;
}

void add_layer(const ModelConfig& config,
               const LayerConfig& layer,
               int64_t seq_len,
               bool dense,
               ForwardProducts& products) {
  add_attention(config, layer, seq_len, dense, products);
  const auto S = static_cast<double>(seq_len), D = static_cast<double>(config.hidden_size),
             expert = 3 * D * static_cast<double>(config.moe_intermediate_size);
  products.router += S * D * static_cast<double>(config.n_routed_experts);
  products.routed_experts += S * static_cast<double>(config.num_experts_per_tok) * expert;
  products.shared_experts += S * static_cast<double>(config.n_shared_experts) * expert;
  products.mhc += S * 2 * residual_products(config);
}

}  // namespace

ForwardProducts forward_products(const ModelConfig& config, int64_t seq_len, bool dense_attention) {
  const auto S = static_cast<double>(seq_len), D = static_cast<double>(config.hidden_size);
  ForwardProducts products;
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    add_layer(config, config.layer(i), seq_len, dense_attention, products);
  }
  products.mhc += S * stream_head_products(config);
  products.head = S * D * static_cast<double>(config.vocab_size);
  if (config.num_nextn_predict_layers > 0) {
    ForwardProducts block;
    add_layer(config, config.mtp_layer(), seq_len, dense_attention, block);
    const double projections = (1 + static_cast<double>(config.num_streams())) * D * D;
    products.mtp = block.attention + block.attention_scores + block.router + block.routed_experts +
                   block.shared_experts + block.mhc + S * stream_head_products(config) +
                   S * projections + products.head;
  }
  return products;
}

double newton_schulz_flops_of_matrix(const GroupedParameter& grouped, const MuonConfig& config) {
  const auto matrices_Brc = matrices_of(grouped, grouped.parameter.value);
  return newton_schulz_flops(
             matrices_Brc.size(1), matrices_Brc.size(2), newton_schulz_options(config))
      .whole;
}

double newton_schulz_flops(const std::vector<GroupedParameter>& parameters,
                           const MuonConfig& config,
                           TrainedParts parts) {
  double flops = 0;
  for (const auto& grouped : parameters) {
    if (grouped.optimizer == OptimizerKind::kMuon && grouped.learns_in(parts)) {
      const auto matrices = matrices_of(grouped, grouped.parameter.value).size(0);
      flops += static_cast<double>(matrices) * newton_schulz_flops_of_matrix(grouped, config);
    }
  }
  return flops;
}

}  // namespace braid
