#include "core/parameter_names.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "core/config_value.h"
#include "core/error.h"
#include "core/named_tensor.h"
#include "core/nearest.h"

namespace braid {
namespace {

using enum ParameterPlace;
using enum ParameterRole;
using enum ModelPart;
using enum StoredForm;
using enum OptimizerKind;
using enum RowSplit;
using enum HfRows;

// The report names the AdamW side (embedding, head, norms, mHC base and scale); it leaves router,
// sinks and position biases open.
// clang-format off
constexpr ParameterKind kKinds[] = {
    // place, name, role, part, form in the release, optimizer, row split, Hugging Face's name
    {kTop, "embed.weight", kMatrix, kEmbedding, kBf16, kAdamW, kWhole, "model.embed_tokens.weight"},
    {kTop, "norm.weight",  kNorm,   kNorms,     kBf16, kAdamW, kWhole, "model.norm.weight"},
    {kTop, "head.weight",  kLinear, kHead,      kBf16, kAdamW, kWhole, "lm_head.weight"},
    {kTop, "hc_head_fn",    kMatrix, kResidual, kF32, kMuon,  kWhole, "model.hc_head.hc_fn"},
    {kTop, "hc_head_base",  kMixing, kResidual, kF32, kAdamW, kWhole, "model.hc_head.hc_base"},
    {kTop, "hc_head_scale", kMixing, kResidual, kF32, kAdamW, kWhole, "model.hc_head.hc_scale"},

    {kBlock, "attn_norm.weight", kNorm, kNorms, kBf16, kAdamW, kWhole, "input_layernorm.weight"},
    {kBlock, "ffn_norm.weight", kNorm, kNorms, kBf16, kAdamW, kWhole, "post_attention_layernorm.weight"},

    {kBlock, "attn.attn_sink",      kBias,   kAttention, kF32,  kAdamW, kWhole,        "self_attn.sinks"},
    {kBlock, "attn.wq_a.weight",    kLinear, kAttention, kFp8,  kMuon,  kWhole,        "self_attn.q_a_proj.weight"},
    {kBlock, "attn.q_norm.weight",  kNorm,   kNorms,     kBf16, kAdamW, kWhole,        "self_attn.q_a_norm.weight"},
    {kBlock, "attn.wq_b.weight",    kLinear, kAttention, kFp8,  kMuon,  kHeads,        "self_attn.q_b_proj.weight"},
    {kBlock, "attn.wkv.weight",     kLinear, kAttention, kFp8,  kMuon,  kWhole,        "self_attn.kv_proj.weight"},
    {kBlock, "attn.kv_norm.weight", kNorm,   kNorms,     kBf16, kAdamW, kWhole,        "self_attn.kv_norm.weight"},
    {kBlock, "attn.wo_a.weight",    kLinear, kAttention, kFp8,  kMuon,  kOutputGroups, "self_attn.o_a_proj.weight"},
    {kBlock, "attn.wo_b.weight",    kLinear, kAttention, kFp8,  kMuon,  kWhole,        "self_attn.o_b_proj.weight"},

    {kBlock, "attn.compressor.ape",          kBias,   kCompressor, kF32,  kAdamW, kWhole,         "self_attn.compressor.position_bias"},
    {kBlock, "attn.compressor.wkv.weight",   kLinear, kCompressor, kBf16, kMuon,  kOverlapHalves, "self_attn.compressor.kv_proj.weight"},
    {kBlock, "attn.compressor.wgate.weight", kLinear, kCompressor, kBf16, kMuon,  kOverlapHalves, "self_attn.compressor.gate_proj.weight"},
    {kBlock, "attn.compressor.norm.weight",  kNorm,   kCompressor, kBf16, kAdamW, kWhole,         "self_attn.compressor.kv_norm.weight"},

    {kBlock, "attn.indexer.wq_b.weight",             kLinear, kIndexer, kFp8,  kMuon,  kWhole,         "self_attn.compressor.indexer.q_b_proj.weight"},
    {kBlock, "attn.indexer.weights_proj.weight",     kLinear, kIndexer, kBf16, kMuon,  kWhole,         "self_attn.compressor.indexer.scorer.weights_proj.weight"},
    {kBlock, "attn.indexer.compressor.ape",          kBias,   kIndexer, kF32,  kAdamW, kWhole,         "self_attn.compressor.indexer.position_bias"},
    {kBlock, "attn.indexer.compressor.wkv.weight",   kLinear, kIndexer, kBf16, kMuon,  kOverlapHalves, "self_attn.compressor.indexer.kv_proj.weight"},
    {kBlock, "attn.indexer.compressor.wgate.weight", kLinear, kIndexer, kBf16, kMuon,  kOverlapHalves, "self_attn.compressor.indexer.gate_proj.weight"},
    {kBlock, "attn.indexer.compressor.norm.weight",  kNorm,   kIndexer, kBf16, kAdamW, kWhole,         "self_attn.compressor.indexer.kv_norm.weight"},

    {kBlock, "ffn.gate.weight",  kLinear, kRouter, kBf16, kMuon, kWhole, "mlp.gate.weight"},
    {kBlock, "ffn.gate.bias",    kBias,   kRouter, kF32,  kNone, kWhole, "mlp.gate.e_score_correction_bias"},
    {kBlock, "ffn.gate.tid2eid", kTable,  kRouter, kI64,  kNone, kWhole, "mlp.gate.tid2eid"},

    {kBlock, "ffn.experts.*.w1.weight", kLinear, kExperts, kFp4, kMuon, kWhole, "mlp.experts.gate_up_proj", kFirstHalf},
    {kBlock, "ffn.experts.*.w3.weight", kLinear, kExperts, kFp4, kMuon, kWhole, "mlp.experts.gate_up_proj", kSecondHalf},
    {kBlock, "ffn.experts.*.w2.weight", kLinear, kExperts, kFp4, kMuon, kWhole, "mlp.experts.down_proj"},
    {kBlock, "ffn.shared_experts.w1.weight", kLinear, kSharedExperts, kFp8, kMuon, kWhole, "mlp.shared_experts.gate_proj.weight"},
    {kBlock, "ffn.shared_experts.w3.weight", kLinear, kSharedExperts, kFp8, kMuon, kWhole, "mlp.shared_experts.up_proj.weight"},
    {kBlock, "ffn.shared_experts.w2.weight", kLinear, kSharedExperts, kFp8, kMuon, kWhole, "mlp.shared_experts.down_proj.weight"},

    {kBlock, "hc_attn_fn",    kMatrix, kResidual, kF32, kMuon,  kWhole, "attn_hc.fn"},
    {kBlock, "hc_attn_base",  kMixing, kResidual, kF32, kAdamW, kWhole, "attn_hc.base"},
    {kBlock, "hc_attn_scale", kMixing, kResidual, kF32, kAdamW, kWhole, "attn_hc.scale"},
    {kBlock, "hc_ffn_fn",     kMatrix, kResidual, kF32, kMuon,  kWhole, "ffn_hc.fn"},
    {kBlock, "hc_ffn_base",   kMixing, kResidual, kF32, kAdamW, kWhole, "ffn_hc.base"},
    {kBlock, "hc_ffn_scale",  kMixing, kResidual, kF32, kAdamW, kWhole, "ffn_hc.scale"},

    // The `hc` residual of the ablation.
    {kBlock, "hc_attn_norm", kNorm,   kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_attn_A0",   kMixing, kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_attn_b0",   kMixing, kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_attn_W_a",  kMixing, kResidual, kF32, kMuon,  kWhole},
    {kBlock, "hc_attn_w_b",  kMixing, kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_attn_s_a",  kMixing, kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_attn_s_b",  kMixing, kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_ffn_norm",  kNorm,   kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_ffn_A0",    kMixing, kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_ffn_b0",    kMixing, kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_ffn_W_a",   kMixing, kResidual, kF32, kMuon,  kWhole},
    {kBlock, "hc_ffn_w_b",   kMixing, kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_ffn_s_a",   kMixing, kResidual, kF32, kAdamW, kWhole},
    {kBlock, "hc_ffn_s_b",   kMixing, kResidual, kF32, kAdamW, kWhole},

    {kMtpBlock, "e_proj.weight", kLinear, kMtp, kFp8,  kMuon,  kWhole},
    {kMtpBlock, "h_proj.weight", kLinear, kMtp, kFp8,  kMuon,  kWhole},
    {kMtpBlock, "enorm.weight",  kNorm,   kMtp, kBf16, kAdamW, kWhole},
    {kMtpBlock, "hnorm.weight",  kNorm,   kMtp, kBf16, kAdamW, kWhole},
    {kMtpBlock, "norm.weight",   kNorm,   kMtp, kBf16, kAdamW, kWhole},
    {kMtpBlock, "hc_head_fn",    kMatrix, kMtp, kF32,  kMuon,  kWhole},
    {kMtpBlock, "hc_head_base",  kMixing, kMtp, kF32,  kAdamW, kWhole},
    {kMtpBlock, "hc_head_scale", kMixing, kMtp, kF32,  kAdamW, kWhole},
};
// clang-format on

constexpr std::string_view kLayers = "layers.", kMtpBlocks = "mtp.", kWeight = ".weight",
                           kScale = ".scale", kExpertsOfAnyNaming = ".experts.",
                           kSuffixA = ".lora_A.weight", kSuffixB = ".lora_B.weight",
                           kSuffixMagnitude = ".lora_magnitude_vector";

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// "17", "*" or "16+*".
bool is_index(std::string_view text) {
  const auto star = text.find('*');
  return star == std::string_view::npos ? is_number(text)
         : star == 0                    ? text.size() == 1
                                        : star + 1 == text.size() && text[star - 1] == '+' &&
                           is_number(text.substr(0, star - 1));
}

int64_t number(std::string_view digits) {
  int64_t value = -1;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

/// A leaf with "*" for its index, and the index.
struct StarredLeaf {
  std::string leaf, index;
};

StarredLeaf starred(std::string_view leaf) {
  for (std::size_t begin = 0; begin < leaf.size();) {
    const auto end = std::min(leaf.find('.', begin), leaf.size());
    if (const auto component = leaf.substr(begin, end - begin); is_index(component)) {
      return {std::string(leaf.substr(0, begin)) + "*" + std::string(leaf.substr(end)),
              std::string(component)};
    }
    begin = end + 1;
  }
  return {std::string(leaf), {}};
}

std::string without_suffix(std::string_view name, std::string_view suffix) {
  return std::string(name.substr(0, name.size() - (name.ends_with(suffix) ? suffix.size() : 0)));
}

/// The rows of adapters: of every matrix, in the part that the matrix is in.
struct AdapterKinds {
  std::vector<std::string> names;
  std::vector<ParameterKind> kinds;

  AdapterKinds() {
    names.reserve(3 * std::size(kKinds));  // the rows look into it
    for (const auto& kind : kKinds) {
      if (kind.role == kLinear || kind.role == kMatrix) {
        add(kind, lora_a_name(std::string(kind.name)), ParameterRole::kLoraA);
        add(kind, lora_b_name(std::string(kind.name)), ParameterRole::kLoraB);
        if (kind.role == kLinear && !kind.is_expert()) {
          add(kind, lora_magnitude_name(std::string(kind.name)), ParameterRole::kLoraMagnitude);
        }
      }
    }
  }

  void add(const ParameterKind& of, std::string name, ParameterRole role) {
    const bool is_there = std::ranges::any_of(kinds, [&](const ParameterKind& kind) {
      return kind.place == of.place && kind.name == name;
    });
    if (is_there) {
      return;  // w3's A is w1's
    }
    names.push_back(std::move(name));
    kinds.push_back({of.place, names.back(), role, of.part, kF32, kAdamW, kWhole});
  }
};

const ParameterKind* find_kind(ParameterPlace place, const std::string& leaf) {
  using Key = std::pair<ParameterPlace, std::string_view>;
  static const AdapterKinds adapters;
  static const std::map<Key, const ParameterKind*> kinds = [] {
    std::map<Key, const ParameterKind*> result;
    for (const auto& kind : kKinds) {
      result.emplace(Key(kind.place, kind.name), &kind);
    }
    for (const auto& kind : adapters.kinds) {
      result.emplace(Key(kind.place, kind.name), &kind);
    }
    return result;
  }();
  const auto found = kinds.find({place, leaf});
  return found == kinds.end() ? nullptr : found->second;
}

const ParameterKind* find_kind(std::string_view block, const std::string& leaf) {
  if (block.empty()) {
    return find_kind(kTop, leaf);
  }
  const auto* of_mtp = is_mtp(block) ? find_kind(kMtpBlock, leaf) : nullptr;
  return of_mtp != nullptr ? of_mtp : find_kind(kBlock, leaf);
}

}  // namespace

std::string_view name_of(ModelPart part) {
  switch (part) {
    case kEmbedding:
      return "embedding";
    case kHead:
      return "head";
    case kAttention:
      return "attention";
    case kCompressor:
      return "compressor";
    case kIndexer:
      return "indexer";
    case kRouter:
      return "router";
    case kExperts:
      return "experts";
    case kSharedExperts:
      return "shared_experts";
    case kResidual:
      return "residual";
    case kNorms:
      return "norms";
    case kMtp:
      return "mtp";
  }
  fail("unreachable: ModelPart");
}

std::span<const ParameterKind> parameter_kinds() {
  return kKinds;
}

BlockAndLeaf split_block(std::string_view name) {
  for (const auto prefix : {kLayers, kMtpBlocks}) {
    if (!name.starts_with(prefix)) {
      continue;
    }
    const auto end = std::min(name.find('.', prefix.size()), name.size());
    const auto digits = name.substr(prefix.size(), end - prefix.size());
    if (end < name.size() && is_number(digits) && (digits.size() == 1 || digits[0] != '0')) {
      return {name.substr(0, end + 1), name.substr(end + 1)};
    }
  }
  return {{}, name};
}

std::optional<ParameterName> parsed_name(std::string_view release_name) {
  const auto [block, leaf] = split_block(release_name);
  auto [kind_leaf, index] = starred(leaf);
  const bool scale = is_scale(kind_leaf);
  if (scale) {
    kind_leaf.replace(kind_leaf.size() - kScale.size(), kScale.size(), kWeight);
  }
  const auto* kind = find_kind(block, kind_leaf);
  if (kind == nullptr) {
    return std::nullopt;
  }
  const bool in_layer = block.starts_with(kLayers);
  return ParameterName{
      .kind = kind,
      .block = std::string(block),
      .layer =
          in_layer ? number(block.substr(kLayers.size(), block.size() - kLayers.size() - 1)) : -1,
      .expert = std::move(index),
      .is_scale = scale};
}

const ParameterKind* kind_of(std::string_view release_name) {
  const auto name = parsed_name(release_name);
  return name && !name->is_scale ? name->kind : nullptr;
}

ModelPart part_of(std::string_view release_name) {
  const auto* kind = kind_of(release_name);
  require(kind != nullptr,
          "parameter ",
          release_name,
          " is not in the table of core/parameter_names.cpp; add a row for it");
  return is_mtp(release_name) ? kMtp : kind->part;
}

bool is_expert(std::string_view release_name) {
  const auto name = parsed_name(release_name);
  return name && name->kind->is_expert();
}

std::string lora_a_name(const std::string& matrix_name) {
  auto name = without_suffix(matrix_name, kWeight);
  const bool of_expert = name.find(kExpertsOfAnyNaming) != std::string::npos;
  if (of_expert && (name.ends_with(".w1") || name.ends_with(".w3"))) {
    name = text(name.substr(0, name.size() - 1), "13");
  }
  return text(name, kSuffixA);
}

std::string lora_b_name(const std::string& matrix_name) {
  return text(without_suffix(matrix_name, kWeight), kSuffixB);
}

std::string lora_magnitude_name(const std::string& matrix_name) {
  return text(without_suffix(matrix_name, kWeight), kSuffixMagnitude);
}

bool is_adapter(std::string_view release_name) {
  const auto* kind = kind_of(release_name);
  return kind != nullptr && kind->is_adapter();
}

bool is_mtp(std::string_view release_name) {
  return release_name.starts_with(kMtpBlocks);
}

bool is_embedding(std::string_view release_name) {
  const auto* kind = kind_of(release_name);
  return kind != nullptr && kind->part == kEmbedding;
}

std::string scale_name(const std::string& weight_name) {
  require(weight_name.ends_with(kWeight),
          "'",
          weight_name,
          "' does not end in .weight, so its scales have no name");
  return weight_name.substr(0, weight_name.size() - kWeight.size()) + std::string(kScale);
}

bool is_scale(std::string_view name) {
  return name.ends_with(kScale);
}

std::string nearest_parameters(const std::string& pattern, const std::vector<std::string>& names) {
  std::string word;  // what it says, without stars, and dots at its ends
  for (const char c : pattern) {
    if (c != '*' && c != '?') {
      word += c;
    }
  }
  const auto first = word.find_first_not_of('.'), last = word.find_last_not_of('.');
  word = first == std::string::npos ? std::string() : word.substr(first, last - first + 1);
  std::set<std::pair<std::size_t, std::string>> by_distance;
  for (const auto& name : names) {
    const auto whole = is_stack(name) ? stack_from(name, 0) : name;
    const auto [block, leaf] = split_block(whole);
    const auto known =
        block.empty() ? whole
                      : std::string(block.substr(0, block.find('.'))) + ".*." + std::string(leaf);
    const bool holds_word = !word.empty() && known.find(word) != std::string::npos;
    by_distance.emplace(holds_word ? 0 : edit_distance(pattern, known), known);
  }
  constexpr std::size_t kMost = 4;
  std::vector<std::string> nearest;
  for (const auto& [distance, name] : by_distance) {
    if (nearest.size() < kMost && (distance == 0 || by_distance.begin()->first > 0)) {
      nearest.push_back(name);
    }
  }
  return joined(nearest);
}

std::string with_starred_expert(const std::string& name) {
  const auto found = name.find(kExpertsOfAnyNaming);
  if (found == std::string::npos) {
    return name;
  }
  const std::size_t begin = found + kExpertsOfAnyNaming.size();
  const std::size_t end = std::min(name.find_first_not_of("0123456789", begin), name.size());
  return end == begin ? name : name.substr(0, begin) + "*" + name.substr(end);
}

}  // namespace braid
