#include "checkpoint/names.h"

#include <map>
#include <string_view>

#include <ATen/ATen.h>

#include "core/error.h"

namespace braid {
namespace {

using Names = std::map<std::string_view, std::string_view>;

// Outside the layers, without "model.": any naming -> release.
const Names kTopNames = {
    {"embed_tokens.weight", "embed.weight"},
    {"embed.weight", "embed.weight"},
    {"lm_head.weight", "head.weight"},
    {"head.weight", "head.weight"},
    {"norm.weight", "norm.weight"},
    {"hc_head.hc_fn", "hc_head_fn"},
    {"hc_head.hc_base", "hc_head_base"},
    {"hc_head.hc_scale", "hc_head_scale"},
    {"hc_head_fn", "hc_head_fn"},
    {"hc_head_base", "hc_head_base"},
    {"hc_head_scale", "hc_head_scale"},
};

// Inside a layer: Hugging Face -> release.
const Names kLayerNames = {
    {"input_layernorm.weight", "attn_norm.weight"},
    {"post_attention_layernorm.weight", "ffn_norm.weight"},
    {"attn_hc.fn", "hc_attn_fn"},
    {"attn_hc.base", "hc_attn_base"},
    {"attn_hc.scale", "hc_attn_scale"},
    {"ffn_hc.fn", "hc_ffn_fn"},
    {"ffn_hc.base", "hc_ffn_base"},
    {"ffn_hc.scale", "hc_ffn_scale"},
    {"self_attn.q_a_proj.weight", "attn.wq_a.weight"},
    {"self_attn.q_a_norm.weight", "attn.q_norm.weight"},
    {"self_attn.q_b_proj.weight", "attn.wq_b.weight"},
    {"self_attn.kv_proj.weight", "attn.wkv.weight"},
    {"self_attn.kv_norm.weight", "attn.kv_norm.weight"},
    {"self_attn.o_a_proj.weight", "attn.wo_a.weight"},
    {"self_attn.o_b_proj.weight", "attn.wo_b.weight"},
    {"self_attn.sinks", "attn.attn_sink"},
    {"self_attn.compressor.kv_proj.weight", "attn.compressor.wkv.weight"},
    {"self_attn.compressor.gate_proj.weight", "attn.compressor.wgate.weight"},
    {"self_attn.compressor.kv_norm.weight", "attn.compressor.norm.weight"},
    {"self_attn.compressor.position_bias", "attn.compressor.ape"},
    {"self_attn.compressor.indexer.q_b_proj.weight", "attn.indexer.wq_b.weight"},
    {"self_attn.compressor.indexer.scorer.weights_proj.weight", "attn.indexer.weights_proj.weight"},
    {"self_attn.compressor.indexer.kv_proj.weight", "attn.indexer.compressor.wkv.weight"},
    {"self_attn.compressor.indexer.gate_proj.weight", "attn.indexer.compressor.wgate.weight"},
    {"self_attn.compressor.indexer.kv_norm.weight", "attn.indexer.compressor.norm.weight"},
    {"self_attn.compressor.indexer.position_bias", "attn.indexer.compressor.ape"},
    {"mlp.gate.weight", "ffn.gate.weight"},
    {"mlp.gate.e_score_correction_bias", "ffn.gate.bias"},
    {"mlp.gate.tid2eid", "ffn.gate.tid2eid"},
    {"mlp.shared_experts.gate_proj.weight", "ffn.shared_experts.w1.weight"},
    {"mlp.shared_experts.up_proj.weight", "ffn.shared_experts.w3.weight"},
    {"mlp.shared_experts.down_proj.weight", "ffn.shared_experts.w2.weight"},
};

// The MTP block has these beside a layer's; only the release naming has the block at all.
const Names kMtpNames = {
    {"e_proj.weight", "e_proj.weight"},
    {"h_proj.weight", "h_proj.weight"},
    {"enorm.weight", "enorm.weight"},
    {"hnorm.weight", "hnorm.weight"},
    {"norm.weight", "norm.weight"},
    {"hc_head_fn", "hc_head_fn"},
    {"hc_head_base", "hc_head_base"},
    {"hc_head_scale", "hc_head_scale"},
};

std::optional<std::string> found_in(const Names& names, std::string_view key) {
  const auto found = names.find(key);
  return found == names.end() ? std::nullopt : std::optional<std::string>(found->second);
}

bool drop_prefix(std::string_view& text, std::string_view prefix) {
  const bool there = text.substr(0, prefix.size()) == prefix;
  text.remove_prefix(there ? prefix.size() : 0);
  return there;
}

/// Takes "12." off the front and returns it; empty when the text does not begin with a plain
/// number.
std::string_view take_index(std::string_view& text) {
  const auto digits = text.find_first_not_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos || text[digits] != '.' ||
      (digits > 1 && text[0] == '0')) {
    return {};
  }
  const auto index = text.substr(0, digits + 1);
  text.remove_prefix(digits + 1);
  return index;
}

bool is_expert(std::string_view leaf) {
  return drop_prefix(leaf, "ffn.experts.") && !take_index(leaf).empty() &&
         (leaf == "w1.weight" || leaf == "w2.weight" || leaf == "w3.weight");
}

std::optional<std::string> layer_leaf(std::string_view leaf) {
  static const Names same = [] {
    Names names;
    for (const auto& [hf, release] : kLayerNames) {
      names[release] = release;
    }
    // transformers' reverse of "compressor norm -> kv_norm" also hits the attention's own kv_norm.
    names["attn.norm.weight"] = "attn.kv_norm.weight";
    return names;
  }();
  if (is_expert(leaf)) {
    return std::string(leaf);
  }
  const auto translated = found_in(kLayerNames, leaf);
  return translated ? translated : found_in(same, leaf);
}

std::optional<std::string> exact_name(std::string_view key) {
  if (std::string_view rest = key; drop_prefix(rest, "mtp.")) {
    const auto index = take_index(rest);
    if (index.empty()) {
      return std::nullopt;
    }
    auto leaf = found_in(kMtpNames, rest);
    leaf = leaf ? leaf : layer_leaf(rest);
    return leaf ? std::optional("mtp." + std::string(index) + *leaf) : std::nullopt;
  }
  drop_prefix(key, "model.");
  if (std::string_view rest = key; drop_prefix(rest, "layers.")) {
    const auto index = take_index(rest);
    const auto leaf = index.empty() ? std::nullopt : layer_leaf(rest);
    return leaf ? std::optional("layers." + std::string(index) + *leaf) : std::nullopt;
  }
  return found_in(kTopNames, key);
}

constexpr std::string_view kGateUp = "mlp.experts.gate_up_proj", kDown = "mlp.experts.down_proj";

bool ends_with(const std::string& text, std::string_view ending) {
  return text.size() >= ending.size() &&
         text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

/// "layers.3." of a stacked experts' key "model.layers.3.mlp.experts.gate_up_proj"; empty for any
/// other key.
std::string stacked_layer(const std::string& key) {
  std::string_view rest = key;
  drop_prefix(rest, "model.");
  if (!drop_prefix(rest, "layers.")) {
    return {};
  }
  const std::string index(take_index(rest));
  return !index.empty() && (rest == kGateUp || rest == kDown) ? "layers." + index : std::string();
}

/// Release -> Hugging Face.
Names inverted(const Names& names) {
  Names result;
  for (const auto& [hf, release] : names) {
    result.emplace(release, hf);
  }
  return result;
}

const Names kHfTopNames = {
    {"embed.weight", "model.embed_tokens.weight"},
    {"head.weight", "lm_head.weight"},
    {"norm.weight", "model.norm.weight"},
    {"hc_head_fn", "model.hc_head.hc_fn"},
    {"hc_head_base", "model.hc_head.hc_base"},
    {"hc_head_scale", "model.hc_head.hc_scale"},
};

}  // namespace

std::optional<HfPlace> hf_place(const std::string& release_name) {
  static const Names layer_names = inverted(kLayerNames);
  std::string_view rest = release_name;
  if (!drop_prefix(rest, "layers.")) {
    const auto name = found_in(kHfTopNames, rest);
    return name ? std::optional(HfPlace{.name = *name}) : std::nullopt;
  }
  const std::string layer = "model.layers." + std::string(take_index(rest));
  if (layer.back() != '.') {
    return std::nullopt;
  }
  if (!is_expert(rest)) {
    const auto name = found_in(layer_names, rest);
    return name ? std::optional(HfPlace{.name = layer + *name}) : std::nullopt;
  }
  drop_prefix(rest, "ffn.experts.");
  const auto index = std::stoll(std::string(take_index(rest)));
  const bool down = rest == "w2.weight";
  return HfPlace{.name = layer + std::string(down ? kDown : kGateUp),
                 .expert = index,
                 .half = rest == "w3.weight" ? 1 : 0,
                 .in_half = !down};
}

std::optional<std::string> release_name(const std::string& key) {
  if (auto name = exact_name(key)) {
    return name;
  }
  // Quantized releases keep the scales of "X.weight" in "X.scale"; files of earlier DeepSeek
  // models, and of those who quantize as they did, say "X.weight_scale_inv".
  constexpr std::string_view kWeight = ".weight";
  for (const std::string_view scale : {".scale", ".weight_scale_inv"}) {
    if (!ends_with(key, scale)) {
      continue;
    }
    auto name = exact_name(key.substr(0, key.size() - scale.size()) + std::string(kWeight));
    if (name && ends_with(*name, kWeight)) {
      return name->replace(name->size() - kWeight.size(), kWeight.size(), ".scale");
    }
  }
  return std::nullopt;
}

ReleaseTensors release_tensors(const std::vector<NamedTensor>& tensors) {
  ReleaseTensors result;
  std::map<std::string, std::string> origin;  // release name -> key
  const auto add = [&](const std::string& name, const at::Tensor& value, const std::string& key) {
    const auto [other, is_new] = origin.emplace(name, key);
    require(is_new,
            "'",
            key,
            "' and '",
            other->second,
            "' both mean the tensor '",
            name,
            "'; keep one of them");
    result.tensors.push_back({name, value});
  };
  for (const auto& [key, value] : tensors) {
    if (const auto name = release_name(key)) {
      add(*name, value, key);
      continue;
    }
    const std::string layer = stacked_layer(key);
    if (layer.empty()) {
      result.unknown.push_back(key);
      continue;
    }
    const bool gate_up = ends_with(key, kGateUp);
    require(value.dim() == 3 && (!gate_up || value.size(1) % 2 == 0),
            "'",
            key,
            "' has shape ",
            value.sizes(),
            ", expected [experts, ",
            gate_up ? "2 * width, hidden]" : "hidden, width]");
    for (int64_t expert = 0; expert < value.size(0); ++expert) {
      const std::string prefix = layer + "ffn.experts." + std::to_string(expert);
      const auto matrix = value.select(0, expert);
      if (!gate_up) {
        add(prefix + ".w2.weight", matrix, key);
        continue;
      }
      const int64_t width = matrix.size(0) / 2;
      add(prefix + ".w1.weight", matrix.narrow(0, 0, width), key);
      add(prefix + ".w3.weight", matrix.narrow(0, width, width), key);
    }
  }
  return result;
}

}  // namespace braid
