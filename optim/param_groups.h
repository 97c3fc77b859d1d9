#pragma once
// Which optimizer trains which parameter, and into which independent matrices it is cut.

#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/named_tensor.h"
#include "optim/config.h"

namespace braid {

/// Which parameters learn, in a whole run or in one step: the indexer has a loss of its own, and
/// its warm-up trains nothing else.
enum class TrainedPart { kAllButIndexer, kAll, kIndexerOnly };
bool contains(TrainedPart part, bool is_indexer);

/// What the names and shapes of parameters do not tell.
struct GroupingFacts {
  int64_t num_heads = 1;                              ///< row blocks of attn.wq_b
  int64_t num_output_groups = 1;                      ///< row blocks of attn.wo_a
  TrainedPart trained = TrainedPart::kAllButIndexer;  ///< at any step of the run
};

/// One parameter with everything the optimizer needs to know about it.
struct GroupedParameter {
  NamedTensor parameter;
  OptimizerKind optimizer = OptimizerKind::kNone;
  double learning_rate_scale = 1;
  double weight_decay = 0;
  int64_t row_blocks = 1;  ///< equal blocks of rows that are matrices of their own
  bool is_indexer = false;

  /// Whether a step that trains `part` moves it.
  bool learns_in(TrainedPart part) const {
    return optimizer != OptimizerKind::kNone && contains(part, is_indexer);
  }
};

/// The group of every parameter, in order. Takes the trained parameters of a model (stacks of
/// experts as
/// "*" names). Groups of the configuration come before the default rules and the first match wins.
/// Throws ConfigError for a group that decides nothing (no name matches that an earlier group
/// left), or puts something other than a matrix on Muon, and Error for a name that nothing matches.
std::vector<GroupedParameter> group_parameters(const std::vector<NamedTensor>& parameters,
                                               const GroupingFacts& facts,
                                               const OptimizerConfig& config);

/// The independent matrices [B, r, c] of a parameter, as a view of `tensor` (its value, gradient or
/// state): stacked experts and row blocks along B.
at::Tensor matrices_of(const GroupedParameter& grouped, const at::Tensor& tensor);

/// Whether `name` matches: "*" stands for any characters, "?" for one.
bool matches_glob(std::string_view pattern, std::string_view name);

}  // namespace braid
