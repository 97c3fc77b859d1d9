#include "optim/param_groups.h"

#include <algorithm>
#include <map>
#include <set>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/parameter_names.h"

namespace braid {
namespace {

/// Dimensions of one logical tensor: the experts of a stack do not count.
int64_t logical_dims(const NamedTensor& parameter) {
  return parameter.value.dim() - is_stack(parameter.name);
}

class Grouper {
 public:
  Grouper(const std::vector<NamedTensor>& parameters,
          const GroupingFacts& facts,
          const OptimizerConfig& config)
      : facts_(facts), config_(config), group_used_(config.groups.size(), false) {
    for (const auto& parameter : parameters) {
      values_.emplace(parameter.name, parameter.value);
      has_adapters_ = has_adapters_ || is_adapter(parameter.name);
    }
  }

  /// Of a parameter that gradients can move.
  GroupedParameter grouped(const NamedTensor& parameter) {
    const auto* kind = kind_of(parameter.name);
    const bool is_indexer = kind != nullptr && kind->is_indexer();
    GroupedParameter result{.parameter = parameter,
                            .part = is_indexer ? TrainedPart::kIndexer : TrainedPart::kTrunk};
    const bool is_vector = logical_dims(parameter) < 2;
    result.weight_decay = is_vector && !config_.decay_vectors ? 0 : config_.weight_decay;
    if (facts_.may_train && !facts_.may_train(parameter.name)) {
      note_group_of(parameter.name);
      return result;
    }
    if (const auto group = group_of(parameter)) {
      result.optimizer = group->optimizer;
      result.learning_rate_scale = group->learning_rate_scale;
      result.weight_decay = group->weight_decay.value_or(result.weight_decay);
    } else {
      require(kind != nullptr,
              "parameter ",
              parameter.name,
              " ",
              parameter.value.sizes(),
              " belongs to no optimizer group; add it to optimizer.groups");
      const bool learns = facts_.trained.contains(result.part);
      result.optimizer = learns ? kind->optimizer : OptimizerKind::kNone;
    }
    // A group can give indexers an optimizer in a run that does not train them, but not the trunk.
    if (result.part == TrainedPart::kTrunk && !facts_.trained.contains(TrainedPart::kTrunk)) {
      result.optimizer = OptimizerKind::kNone;
    }
    if (result.optimizer == OptimizerKind::kMuon) {
      result.row_blocks = kind == nullptr ? 1 : row_blocks(parameter, kind->split);
    }
    return result;
  }

  /// Whether this parameter, which takes no gradient, is frozen by itself: by a group (others say
  /// nothing about it), or because the run may not train it.
  bool is_frozen_by_name(const std::string& name) {
    if (facts_.may_train && !facts_.may_train(name)) {
      note_group_of(name);
      return true;
    }
    for (std::size_t i = 0; i < config_.groups.size(); ++i) {
      if (matches_glob(config_.groups[i].match, name)) {
        const bool freezes = config_.groups[i].optimizer == OptimizerKind::kNone;
        group_used_[i] = group_used_[i] || freezes;
        return freezes;
      }
    }
    return false;
  }

  void require_all_groups_used() const {
    for (std::size_t index = 0; index < group_used_.size(); ++index) {
      const bool is_for_adapters = config_.groups[index].match.find("lora_") != std::string::npos;
      if (group_used_[index] || (is_for_adapters && !has_adapters_)) {
        continue;
      }
      throw ConfigError(
          text("optimizer.groups[", index, "].match"),
          text("'",
               config_.groups[index].match,
               "' decides for no parameter: no release name matches it that an earlier "
               "group left (experts are matched together, as in '*.experts.*.w1.weight'; routing "
               "biases and tables take no gradient, so that none is the only optimizer for them)"));
    }
  }

 private:
  // Of a parameter that cannot be trained: its group says something that holds elsewhere.
  void note_group_of(const std::string& name) {
    for (std::size_t i = 0; i < config_.groups.size(); ++i) {
      if (matches_glob(config_.groups[i].match, name)) {
        group_used_[i] = true;
        return;
      }
    }
  }

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
  bool has_adapters_ = false;
};

bool takes_no_gradient(const std::string& name) {
  const auto* kind = kind_of(name);
  return kind != nullptr && kind->optimizer == OptimizerKind::kNone;
}

}  // namespace

std::vector<GroupedParameter> group_parameters(const std::vector<NamedTensor>& parameters,
                                               const GroupingFacts& facts,
                                               const OptimizerConfig& config) {
  Grouper grouper(parameters, facts, config);
  std::vector<GroupedParameter> result;
  std::set<std::string> with_frozen_gate;  // blocks
  for (const auto& parameter : parameters) {
    if (takes_no_gradient(parameter.name)) {
      continue;
    }
    result.push_back(grouper.grouped(parameter));
    const auto [block, leaf] = split_block(parameter.name);
    if (leaf == "ffn.gate.weight" && result.back().is_frozen()) {
      with_frozen_gate.emplace(block);
    }
  }
  // Routing biases follow their gate, which they have no meaning without. Tables never move.
  for (const auto& parameter : parameters) {
    if (takes_no_gradient(parameter.name)) {
      const bool is_named = grouper.is_frozen_by_name(parameter.name);
      const auto block = std::string(split_block(parameter.name).block);
      const bool is_table = kind_of(parameter.name)->role == ParameterRole::kTable;
      if (!is_table && (is_named || with_frozen_gate.contains(block))) {
        result.push_back({.parameter = parameter});
      }
    }
  }
  grouper.require_all_groups_used();
  return result;
}

at::Tensor matrices_of(const GroupedParameter& grouped, const at::Tensor& tensor) {
  const int64_t rows = tensor.size(-2), cols = tensor.size(-1);
  return tensor.view({-1, rows / grouped.row_blocks, cols});
}

}  // namespace braid
