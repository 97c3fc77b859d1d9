#include "model/lora.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "core/glob.h"
#include "core/named_tensor.h"
#include "core/parameter_names.h"
#include "core/random.h"
#include "core/random_tensor.h"
#include "kernels/codec.h"
#include "kernels/precision.h"

namespace braid {
namespace {

constexpr std::string_view kAttentionSet = "attention", kExpertsSet = "experts", kAllSet = "all";

bool is_set(std::string_view item) {
  return item == kAttentionSet || item == kExpertsSet || item == kAllSet;
}

// "attention+experts" -> {"attention", "experts"}; anything else is one item.
std::vector<std::string> parts_of_item(const std::string& item) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= item.size();) {
    const auto end = std::min(item.find('+', begin), item.size());
    parts.push_back(item.substr(begin, end - begin));
    begin = end + 1;
  }
  return std::ranges::all_of(parts, is_set) ? parts : std::vector{item};
}

bool may_be_adapted(const std::string& name) {
  const auto* kind = kind_of(name);
  return kind != nullptr &&
         (kind->role == ParameterRole::kLinear || kind->role == ParameterRole::kMatrix);
}

// The same name on every rank.
std::string whole_stack(const std::string& name) {
  return is_stack(name) ? stack_from(name, 0) : name;
}

bool takes(const std::string& item, const std::string& name) {
  const auto& kind = *kind_of(name);
  if (item == kAllSet) {
    return true;
  }
  const bool in_layers = name.starts_with("layers.");
  if (item == kAttentionSet) {
    constexpr std::array kNames = {
        "attn.wq_a.weight", "attn.wq_b.weight", "attn.wkv.weight", "attn.wo_b.weight"};
    return in_layers && std::ranges::find(kNames, kind.name) != kNames.end();
  }
  if (item == kExpertsSet) {
    return in_layers && kind.is_expert();
  }
  const bool says_indexer = item.find("indexer") != std::string::npos;
  return matches_glob(item, name) && (!kind.is_indexer() || says_indexer);
}

// The first entry that matches.
template <class Entry>
const Entry* entry_for(const std::vector<Entry>& entries, const std::string& name) {
  const auto found = std::ranges::find_if(
      entries, [&](const Entry& entry) { return matches_glob(entry.match, name); });
  return found == entries.end() ? nullptr : &*found;
}

template <class Entry>
void require_all_decide(const std::vector<Entry>& entries,
                        const std::vector<std::string>& adapted,
                        const std::string& key) {
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const bool decides = std::ranges::any_of(
        adapted, [&](const std::string& name) { return entry_for(entries, name) == &entries[i]; });
    if (!decides) {
      throw ConfigError(text(key, "[", i, "].match"),
                        text("'",
                             entries[i].match,
                             "' decides for no adapter: no matrix that adapter.targets names "
                             "matches it that an earlier entry left. Near: ",
                             nearest_parameters(entries[i].match, adapted)));
    }
  }
}

// Operations that take products with the adapter's A and B as they are.
bool is_plain_product(const ParameterKind& kind) {
  return kind.is_linear() && !kind.is_expert() && kind.split != RowSplit::kOutputGroups &&
         kind.part != ModelPart::kHead;
}

// The matrix of the same experts that shares this one's A: w3 for w1 and the other way round; empty
// for any other matrix.
std::string partner_of(const std::string& name) {
  constexpr std::string_view kW1 = "w1.weight", kW3 = "w3.weight";
  const bool is_w1 = name.ends_with(kW1);
  if (!kind_of(name)->is_expert() || !(is_w1 || name.ends_with(kW3))) {
    return {};
  }
  return name.substr(0, name.size() - kW1.size()) + std::string(is_w1 ? kW3 : kW1);
}

}  // namespace

LoraTargets LoraTargets::from_config(const ConfigNode& node,
                                     const std::string& path,
                                     ConfigPlaces& places) {
  LoraTargets targets;
  targets.items.clear();
  const auto add = [&](const ConfigNode& item, const std::string& item_path) {
    for (const auto& part : parts_of_item(read_text(item, item_path))) {
      places.add(text(path, "[", targets.items.size(), "]"), item.place);
      targets.items.push_back(part);
    }
  };
  if (node.kind == ConfigNode::Kind::kScalar) {
    add(node, path);
  } else {
    require_list(node, path);
    for (std::size_t i = 0; i < node.items.size(); ++i) {
      add(node.items[i], text(path, "[", i, "]"));
    }
  }
  return targets;
}

ConfigNode LoraTargets::to_config() const {
  std::vector<ConfigNode> nodes;
  for (const auto& item : items) {
    nodes.push_back(ConfigNode::text(item));
  }
  return ConfigNode::sequence(std::move(nodes));
}

std::optional<std::size_t> LoraConfig::target_of(const std::string& name) const {
  const auto whole = whole_stack(name);
  if (!may_be_adapted(whole)) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < targets.items.size(); ++i) {
    if (takes(targets.items[i], whole)) {
      return i;
    }
  }
  return std::nullopt;
}

void LoraConfig::validate(const std::vector<std::string>& names, const std::string& prefix) const {
  const auto key = [&](std::size_t i) { return text(prefix, ".targets[", i, "]"); };
  if (targets.items.empty()) {
    throw ConfigError(prefix + ".targets", "is empty; expected attention, or other matrices");
  }
  std::vector<std::string> matrices_of_model;
  std::ranges::copy_if(names, std::back_inserter(matrices_of_model), may_be_adapted);
  for (std::size_t i = 0; i < targets.items.size(); ++i) {
    const auto& item = targets.items[i];
    const auto is_taken = [&](const std::string& name) {
      return may_be_adapted(name) && takes(item, whole_stack(name));
    };
    if (std::ranges::any_of(names, is_taken)) {
      continue;
    }
    const auto matched = std::ranges::find_if(
        names, [&](const std::string& name) { return matches_glob(item, whole_stack(name)); });
    throw ConfigError(
        key(i),
        matched == names.end()
            ? text("'",
                   item,
                   "' matches no matrix of the model; expected attention, experts, all, or a "
                   "pattern of whole release names. Near: ",
                   nearest_parameters(item, matrices_of_model))
        : may_be_adapted(*matched)
            ? text("'", item, "' only matches matrices of indexers; say `indexer` in the pattern")
            : text(
                  "'", item, "' only matches parameters that are no matrices, such as ", *matched));
  }
  std::vector<std::string> adapted;
  for (const auto& name : names) {
    const auto target = target_of(name);
    if (!target) {
      continue;
    }
    adapted.push_back(whole_stack(name));
    if ((dropout > 0 || dora) && !is_plain_product(*kind_of(name))) {
      const bool drops = dropout > 0;
      throw ConfigError(prefix + (drops ? ".dropout" : ".dora"),
                        text("is ",
                             drops ? real_text(dropout) : "true",
                             ", but ",
                             adapted.back(),
                             " (",
                             targets.items[*target],
                             ") is no plain product, and takes part without it only"));
    }
  }
  require_all_decide(rank_pattern, adapted, prefix + ".rank_pattern");
  require_all_decide(alpha_pattern, adapted, prefix + ".alpha_pattern");
  for (const auto& name : adapted) {
    const auto partner = partner_of(name);
    if (partner.empty()) {
      continue;
    }
    const auto own = lora_matrix(*this, name), its = lora_matrix(*this, partner);
    if (!its) {
      throw ConfigError(key(*target_of(name)),
                        text("takes ",
                             name,
                             " without ",
                             partner,
                             ", but the two share their A; name both, as in "
                             "layers.*.ffn.experts.*.w?.weight"));
    }
    if (own->rank != its->rank || own->alpha != its->alpha) {
      throw ConfigError(prefix + (own->rank != its->rank ? ".rank_pattern" : ".alpha_pattern"),
                        text("says otherwise of ",
                             name,
                             " than of ",
                             partner,
                             ", but the two share their A: they have one rank and one alpha"));
    }
  }
}

std::optional<LoraMatrix> lora_matrix(const LoraConfig& config, const std::string& name) {
  if (!config.target_of(name)) {
    return std::nullopt;
  }
  const auto whole = whole_stack(name);
  const auto* rank = entry_for(config.rank_pattern, whole);
  const auto* alpha = entry_for(config.alpha_pattern, whole);
  LoraMatrix matrix{.name = name,
                    .a_name = lora_a_name(name),
                    .b_name = lora_b_name(name),
                    .rank = rank != nullptr ? rank->rank : config.rank,
                    .alpha = alpha != nullptr ? alpha->alpha : config.alpha};
  matrix.scale = lora_scale(matrix.alpha, matrix.rank, config.rslora);
  return matrix;
}

at::Tensor row_squares(const Weight& matrix, at::ScalarType type) {
  const auto values = matrix.quantized() ? decode({matrix.values, matrix.scales}) : matrix.values;
  return values.detach().to(type).square().sum(1);
}

double lora_scale(double alpha, int64_t rank, bool rslora) {
  const auto r = static_cast<double>(rank);
  return alpha / (rslora ? std::sqrt(r) : r);
}

Lora::Lora(std::string name,
           Weight a_rI,
           Weight b_Or,
           double scale,
           std::shared_ptr<const LoraUse> use,
           std::optional<LoraMagnitude> magnitude)
    : name_(std::move(name)),
      a_rI_(std::move(a_rI)),
      b_Or_(std::move(b_Or)),
      scale_(scale),
      use_(std::move(use)),
      magnitude_(std::move(magnitude)) {}

at::Tensor Lora::forward(const at::Tensor& x) const {
  return project(project(dropped(x), a_rI_) * scale_, b_Or_);
}

at::Tensor Lora::applied(const at::Tensor& y, const at::Tensor& x) const {
  const auto sum = y + forward(x);
  if (!magnitude_) {
    return sum;
  }
  // Wide: in bfloat16 a magnitude would not notice what it learns.
  return (widened(sum) * (magnitude_->magnitude_O / row_norms())).to(y.scalar_type());
}

// |w + d|^2 = |w|^2 + 2 w d + |d|^2 of each row, with d = scale b A: W is read by a product alone.
at::Tensor Lora::row_norms() const {
  const at::NoGradGuard no_grad;
  const auto &a_rI = a_rI_.values, &b_Or = b_Or_.values;
  if (!base_squares_O_.defined()) {
    base_squares_O_ = row_squares(magnitude_->base, a_rI.scalar_type());
  }
  const auto mixed_Or = project(a_rI, magnitude_->base).t() * (2 * scale_);
  const auto added_Or = at::mm(b_Or, at::mm(a_rI, a_rI.t())) * (scale_ * scale_);
  const auto squares_O = base_squares_O_ + ((mixed_Or + added_Or) * b_Or).sum(1);
  return squares_O.clamp_min(std::numeric_limits<float>::min()).sqrt();
}

at::Tensor Lora::forward_grouped(const at::Tensor& x_TGI) const {
  return grouped_project(project(x_TGI, a_rI_) * scale_, b_Or_);
}

at::Tensor Lora::delta() const {
  require(!magnitude_, "[lora] ", name_, ": what DoRA adds is no sum with the matrix");
  return at::mm(b_Or_.values * scale_, a_rI_.values);
}

at::Tensor Lora::look_up(const at::Tensor& ids) const {
  return project(at::embedding(a_rI_.values.t(), ids) * scale_, b_Or_);
}

at::Tensor Lora::dropped(const at::Tensor& x) const {
  if (!use_->key || use_->dropout == 0) {
    return x;
  }
  const uint64_t key = random_key(*use_->key, name_);
  const auto limit = static_cast<uint64_t>(use_->dropout * 0x1p32);
  const auto kept = static_cast<float>(1 / (1 - use_->dropout));
  const int64_t count = x.numel();
  if (!x.is_cpu()) {
    const auto counters = at::arange((count + 3) / 4, x.options().dtype(at::kLong));
    const auto words = philox_words(key, counters).reshape(-1).narrow(0, 0, count);
    const auto factors = (words >= static_cast<int64_t>(limit)).to(at::kFloat) * kept;
    return x * factors.to(x.scalar_type()).view(x.sizes());
  }
  auto factors = at::empty(x.sizes(), x.options().dtype(at::kFloat).requires_grad(false));
  auto* factor = factors.data_ptr<float>();
  at::parallel_for(0, (count + 3) / 4, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto bits = philox(key, static_cast<uint64_t>(i));
      for (int64_t j = 0; j < std::min<int64_t>(4, count - 4 * i); ++j) {
        factor[4 * i + j] = bits[static_cast<std::size_t>(j)] < limit ? 0 : kept;
      }
    }
  });
  return x * factors.to(x.scalar_type());
}

}  // namespace braid
