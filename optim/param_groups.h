#pragma once
// Which optimizer trains which parameter, and into which independent matrices it is cut.

#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/glob.h"
#include "core/named_tensor.h"
#include "optim/config.h"
#include "optim/trained_parts.h"

namespace braid {

/// What the names and shapes of parameters do not tell.
struct GroupingFacts {
  int64_t num_heads = 1;                         ///< row blocks of attn.wq_b
  int64_t num_output_groups = 1;                 ///< row blocks of attn.wo_a
  TrainedParts trained = {TrainedPart::kTrunk};  ///< at any step of the run
  /// Whether the parameter of this name may be trained at all; the others are frozen, whatever
  /// groups say of them. Unset: all may.
  std::function<bool(const std::string& name)> may_train = {};
};

/// One parameter with everything the optimizer needs to know about it.
struct GroupedParameter {
  NamedTensor parameter;
  OptimizerKind optimizer = OptimizerKind::kNone;
  double learning_rate_scale = 1;
  double weight_decay = 0;
  int64_t row_blocks = 1;  ///< equal blocks of rows that are matrices of their own
  TrainedPart part = TrainedPart::kTrunk;

  /// Whether no step of the run moves it.
  bool is_frozen() const { return optimizer == OptimizerKind::kNone; }
  /// Whether a step that trains these parts moves it.
  bool learns_in(TrainedParts parts) const { return !is_frozen() && parts.contains(part); }
};

/// The group of every parameter of a model that gradients can move, in order (stacks of experts as
/// "*" names); behind them the frozen routing biases, which are those that a group of optimizer
/// `none` names, those that may not be trained and those whose gate is frozen. The others move by a
/// rule of their own (model/router.h) and are in no group. Groups of the configuration come before
/// the defaults (core/parameter_names.h) and the first match wins. Throws ConfigError for a group
/// that decides nothing (no name matches that an earlier group left; one for adapters is passed
/// over where there are none), or puts something other than a matrix on Muon, and Error for a name
/// that nothing matches.
std::vector<GroupedParameter> group_parameters(const std::vector<NamedTensor>& parameters,
                                               const GroupingFacts& facts,
                                               const OptimizerConfig& config);

/// The independent matrices [B, r, c] of a parameter, as a view of `tensor` (its value, gradient or
/// state): stacked experts and row blocks along B.
at::Tensor matrices_of(const GroupedParameter& grouped, const at::Tensor& tensor);

}  // namespace braid
