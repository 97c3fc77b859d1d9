#include "checkpoint/names.h"

#include <map>
#include <string_view>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/parameter_names.h"

namespace braid {
namespace {

using HfNames = std::map<std::string_view, const ParameterKind*>;

bool drop_prefix(std::string_view& text, std::string_view prefix) {
  const bool there = text.starts_with(prefix);
  text.remove_prefix(there ? prefix.size() : 0);
  return there;
}

constexpr std::string_view kModel = "model.";

// Hugging Face's name -> row, stacks left out; outside the layers without "model.".
HfNames hf_names(bool in_block) {
  HfNames names;
  for (const auto& kind : parameter_kinds()) {
    auto name = kind.hf_name;
    if (!name.empty() && !kind.is_expert() && in_block == (kind.place == ParameterPlace::kBlock)) {
      drop_prefix(name, in_block ? "" : kModel);
      names.emplace(name, &kind);
    }
  }
  return names;
}

bool is_digits(const std::string& text) {
  return text.find_first_not_of("0123456789") == std::string::npos;
}

// Whether a published model has a parameter of this name.
bool is_release_name(std::string_view name) {
  const auto parsed = parsed_name(name);
  return parsed && !parsed->is_scale && parsed->kind->is_published() && is_digits(parsed->expert);
}

std::optional<std::string> exact_name(std::string_view key) {
  static const HfNames of_top = hf_names(/*in_block=*/false),
                       of_block = hf_names(/*in_block=*/true);
  if (drop_prefix(key, kModel) && is_mtp(key)) {
    return std::nullopt;  // only the release naming has the block
  }
  if (is_release_name(key)) {
    return std::string(key);
  }
  const auto [block, leaf] = split_block(key);
  const auto& names = block.empty() ? of_top : of_block;
  const auto found = names.find(leaf);
  if (found != names.end()) {
    return std::string(block) + std::string(found->second->name);
  }
  // transformers' reverse of "compressor norm -> kv_norm" also hits the attention's own kv_norm.
  return !block.empty() && leaf == "attn.norm.weight"
             ? std::optional(std::string(block) + "attn.kv_norm.weight")
             : std::nullopt;
}

/// A stack of experts under Hugging Face's name.
struct HfStack {
  std::string block;                        ///< "layers.3."
  std::vector<const ParameterKind*> kinds;  ///< w1 and w3, or w2
};

/// No kinds for any other key.
HfStack stack_of(std::string_view key) {
  drop_prefix(key, kModel);
  const auto [block, leaf] = split_block(key);
  HfStack stack{.block = std::string(block), .kinds = {}};
  for (const auto& kind : parameter_kinds()) {
    if (!block.empty() && !is_mtp(block) && kind.is_expert() && kind.hf_name == leaf) {
      stack.kinds.push_back(&kind);
    }
  }
  return stack;
}

}  // namespace

std::optional<HfPlace> hf_place(const std::string& release_name) {
  const auto name = parsed_name(release_name);
  if (!name || name->is_scale || is_mtp(release_name) || name->kind->hf_name.empty() ||
      !is_digits(name->expert)) {
    return std::nullopt;
  }
  HfPlace place{.name = std::string(name->kind->hf_name)};
  if (!name->block.empty()) {
    place.name = std::string(kModel) + name->block + place.name;
  }
  if (name->kind->is_expert()) {
    place.expert = std::stoll(name->expert);
    place.half = name->kind->hf_rows == HfRows::kSecondHalf ? 1 : 0;
    place.in_half = name->kind->hf_rows != HfRows::kAllRows;
  }
  return place;
}

std::optional<std::string> release_name(const std::string& key) {
  if (auto name = exact_name(key)) {
    return name;
  }
  // Quantized releases keep the scales of "X.weight" in "X.scale"; files of earlier DeepSeek
  // models, and of those who quantize as they did, say "X.weight_scale_inv".
  constexpr std::string_view kWeight = ".weight";
  for (const std::string_view scale : {".scale", ".weight_scale_inv"}) {
    if (!key.ends_with(scale)) {
      continue;
    }
    const auto name = exact_name(key.substr(0, key.size() - scale.size()) + std::string(kWeight));
    if (name && name->ends_with(kWeight)) {
      return scale_name(*name);
    }
  }
  return std::nullopt;
}

bool names_a_tensor(const std::string& key) {
  return release_name(key).has_value() || !stack_of(key).kinds.empty();
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
    const auto stack = stack_of(key);
    if (stack.kinds.empty()) {
      result.unknown.push_back(key);
      continue;
    }
    const auto parts = static_cast<int64_t>(stack.kinds.size());
    require(value.dim() == 3 && value.size(1) % parts == 0,
            "'",
            key,
            "' has shape ",
            value.sizes(),
            ", expected [experts, ",
            parts == 2 ? "2 * width, hidden]" : "hidden, width]");
    const int64_t rows = value.size(1) / parts;
    for (int64_t expert = 0; expert < value.size(0); ++expert) {
      for (int64_t part = 0; part < parts; ++part) {
        add(name_in_stack(
                stack.block + std::string(stack.kinds[static_cast<std::size_t>(part)]->name),
                expert),
            value.select(0, expert).narrow(0, part * rows, rows),
            key);
      }
    }
  }
  return result;
}

}  // namespace braid
