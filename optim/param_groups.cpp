#include "optim/param_groups.h"

#include <algorithm>
#include <map>

#include <ATen/ATen.h>

#include "core/error.h"

namespace braid {
namespace {

/// Row blocks of a matrix that are logically independent.
enum class RowSplit { kWhole, kHeads, kOutputGroups, kOverlapHalves };

struct Rule {
  const char* match;
  OptimizerKind optimizer;
  RowSplit split = RowSplit::kWhole;
};

// For the release's names, then those of the `hc` ablation; first match wins. The report names the
// AdamW side (embedding, head, norms, mHC base and scale); it leaves router, sinks and ape open.
constexpr Rule kDefaultRules[] = {
    {"embed.weight", OptimizerKind::kAdamW},
    {"head.weight", OptimizerKind::kAdamW},
    {"*norm.weight", OptimizerKind::kAdamW},
    {"*.attn.attn_sink", OptimizerKind::kAdamW},
    {"*.compressor.ape", OptimizerKind::kAdamW},

    {"*.attn.wq_a.weight", OptimizerKind::kMuon},
    {"*.attn.wq_b.weight", OptimizerKind::kMuon, RowSplit::kHeads},
    {"*.attn.wkv.weight", OptimizerKind::kMuon},
    {"*.attn.wo_a.weight", OptimizerKind::kMuon, RowSplit::kOutputGroups},
    {"*.attn.wo_b.weight", OptimizerKind::kMuon},
    {"*.compressor.wkv.weight", OptimizerKind::kMuon, RowSplit::kOverlapHalves},
    {"*.compressor.wgate.weight", OptimizerKind::kMuon, RowSplit::kOverlapHalves},
    {"*.attn.indexer.wq_b.weight", OptimizerKind::kMuon},
    {"*.attn.indexer.weights_proj.weight", OptimizerKind::kMuon},

    {"*.ffn.gate.weight", OptimizerKind::kMuon},
    {"*.ffn.experts.*.w?.weight", OptimizerKind::kMuon},
    {"*.ffn.shared_experts.w?.weight", OptimizerKind::kMuon},
    {"mtp.*.e_proj.weight", OptimizerKind::kMuon},
    {"mtp.*.h_proj.weight", OptimizerKind::kMuon},

    {"*hc_*_fn", OptimizerKind::kMuon},
    {"*hc_*_base", OptimizerKind::kAdamW},
    {"*hc_*_scale", OptimizerKind::kAdamW},

    {"*.hc_*_W_a", OptimizerKind::kMuon},
    {"*.hc_*_w_b", OptimizerKind::kAdamW},
    {"*.hc_*_A0", OptimizerKind::kAdamW},
    {"*.hc_*_b0", OptimizerKind::kAdamW},
    {"*.hc_*_s_?", OptimizerKind::kAdamW},
    {"*.hc_*_norm", OptimizerKind::kAdamW},
};

constexpr const char* kIndexer = "*.attn.indexer.*";

const Rule* default_rule(const std::string& name) {
  const auto found = std::find_if(std::begin(kDefaultRules),
                                  std::end(kDefaultRules),
                                  [&](const Rule& rule) { return matches_glob(rule.match, name); });
  return found == std::end(kDefaultRules) ? nullptr : found;
}

bool is_stack(const NamedTensor& parameter) {
  return parameter.name.find('*') != std::string::npos;
}

/// Dimensions of one logical tensor: the experts of a stack do not count.
int64_t logical_dims(const NamedTensor& parameter) {
  return parameter.value.dim() - is_stack(parameter);
}

class Grouper {
 public:
  Grouper(const std::vector<NamedTensor>& parameters,
          const GroupingFacts& facts,
          const OptimizerConfig& config)
      : facts_(facts), config_(config), group_used_(config.groups.size(), false) {
    for (const auto& parameter : parameters) {
      values_.emplace(parameter.name, parameter.value);
    }
  }

  GroupedParameter grouped(const NamedTensor& parameter) {
    GroupedParameter result{.parameter = parameter,
                            .is_indexer = matches_glob(kIndexer, parameter.name)};
    const bool is_vector = logical_dims(parameter) < 2;
    result.weight_decay = is_vector && !config_.decay_vectors ? 0 : config_.weight_decay;
    const Rule* rule = default_rule(parameter.name);
    if (const auto group = group_of(parameter)) {
      result.optimizer = group->optimizer;
      result.learning_rate_scale = group->learning_rate_scale;
      result.weight_decay = group->weight_decay.value_or(result.weight_decay);
    } else {
      require(rule != nullptr,
              "parameter ",
              parameter.name,
              " ",
              parameter.value.sizes(),
              " belongs to no optimizer group; add it to optimizer.groups");
      result.optimizer = rule->optimizer;
      if (facts_.trained == TrainedPart::kAllButIndexer && result.is_indexer) {
        result.optimizer = OptimizerKind::kNone;
      }
    }
    if (facts_.trained == TrainedPart::kIndexerOnly && !result.is_indexer) {
      result.optimizer = OptimizerKind::kNone;
    }
    if (result.optimizer == OptimizerKind::kMuon) {
      result.row_blocks = rule == nullptr ? 1 : row_blocks(parameter, rule->split);
    }
    return result;
  }

  void require_all_groups_used() const {
    const auto unused = std::find(group_used_.begin(), group_used_.end(), false);
    if (unused != group_used_.end()) {
      const auto index = static_cast<std::size_t>(unused - group_used_.begin());
      throw ConfigError(
          text("optimizer.groups[", index, "].match"),
          text("'",
               config_.groups[index].match,
               "' decides for no parameter: no release name matches it that an earlier "
               "group left (experts are matched together, as in '*.experts.*.w1.weight')"));
    }
  }

 private:
  const ParameterGroup* group_of(const NamedTensor& parameter) {
    for (std::size_t i = 0; i < config_.groups.size(); ++i) {
      const auto& group = config_.groups[i];
      if (!matches_glob(group.match, parameter.name)) {
        continue;
      }
      if (group.optimizer == OptimizerKind::kMuon && logical_dims(parameter) != 2) {
        throw ConfigError(text("optimizer.groups[", i, "].optimizer"),
                          text("muon trains matrices, but ",
                               parameter.name,
                               " has shape ",
                               parameter.value.sizes(),
                               "; use adamw for it"));
      }
      group_used_[i] = true;
      return &group;
    }
    return nullptr;
  }

  int64_t row_blocks(const NamedTensor& parameter, RowSplit split) const {
    const auto& [name, value] = parameter;
    const int64_t rows = value.size(value.dim() - 2);
    int64_t blocks = 1;
    switch (split) {
      case RowSplit::kWhole:
        return 1;
      case RowSplit::kHeads:
        blocks = config_.query_split == QuerySplit::kPerHead ? facts_.num_heads : 1;
        break;
      case RowSplit::kOutputGroups:
        blocks = facts_.num_output_groups;
        break;
      case RowSplit::kOverlapHalves: {
        // CSA's compressor has two rows per channel of its norm, one for each overlapping window.
        const auto norm = name.substr(0, name.rfind("compressor.")) + "compressor.norm.weight";
        const auto found = values_.find(norm);
        require(
            found != values_.end(), name, " needs ", norm, " to tell its overlapping halves apart");
        blocks = rows / std::max<int64_t>(1, found->second.numel());
        break;
      }
    }
    require(blocks > 0 && rows % blocks == 0,
            name,
            " ",
            value.sizes(),
            " cannot be cut into ",
            blocks,
            " row blocks");
    return blocks;
  }

  const GroupingFacts& facts_;
  const OptimizerConfig& config_;
  std::vector<bool> group_used_;
  std::map<std::string, at::Tensor> values_;
};

}  // namespace

bool contains(TrainedPart part, bool is_indexer) {
  return part == TrainedPart::kAll || is_indexer == (part == TrainedPart::kIndexerOnly);
}

bool matches_glob(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0, star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

std::vector<GroupedParameter> group_parameters(const std::vector<NamedTensor>& parameters,
                                               const GroupingFacts& facts,
                                               const OptimizerConfig& config) {
  Grouper grouper(parameters, facts, config);
  std::vector<GroupedParameter> result;
  for (const auto& parameter : parameters) {
    result.push_back(grouper.grouped(parameter));
  }
  grouper.require_all_groups_used();
  return result;
}

at::Tensor matrices_of(const GroupedParameter& grouped, const at::Tensor& tensor) {
  const int64_t rows = tensor.size(-2), cols = tensor.size(-1);
  return tensor.view({-1, rows / grouped.row_blocks, cols});
}

}  // namespace braid
