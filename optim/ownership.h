#pragma once
// Which rank updates which part of the weights, and so keeps the optimizer's state for it (ZeRO-1).
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "optim/param_groups.h"

namespace braid {

/// Elements [begin, end) of a parameter.
struct ElementRange {
  std::size_t parameter = 0;  ///< index among the grouped parameters
  int64_t begin = 0, end = 0;
  int64_t elements() const { return end - begin; }
};

/// What is kept of every weight from step to step, as names of tensors in checkpoints end: nothing
/// of `none`. In the order in which the optimizer has it.
std::vector<std::string> state_names(OptimizerKind optimizer);

/// What is never divided: one of Muon's matrices, or for others some rows (about 1 MiB of weights).
/// The same units on any grid, so that sums over units have the same bits.
struct Unit {
  ElementRange range;
  double flops = 0;  ///< of one Newton-Schulz iteration on the matrix itself; 0 for others
  int64_t state_bytes = 0;
};

/// All units of the parameters that are ever trained, in order. Throws Error where others than Muon
/// have more than 5e12 elements.
std::vector<Unit> units_of(const std::vector<GroupedParameter>& parameters);

struct Ownership {
  std::vector<Unit> units;
  std::vector<int64_t> owner;  ///< by unit: 0 <= rank in the owner group < owners
  int64_t owners = 1;

  /// The most loaded owner's Newton-Schulz work over the mean; 1 = even. 1 without such work.
  double flops_imbalance() const;
  /// Bytes of state by owner.
  std::vector<int64_t> state_bytes() const;
  /// What the owner has, neighboring units of one parameter joined.
  std::vector<ElementRange> owned_by(int64_t rank) const;
};

/// Matrices from the costliest on, each to the owner with the least Newton-Schulz work so far (then
/// the least state); then the other units likewise by state. Ties go to the lower rank.
Ownership balanced_ownership(std::vector<Unit> units, int64_t owners);

/// Units in their order, cut into runs of equal cost: an owner has one contiguous piece
/// of a stack of experts. Even to one unit.
Ownership contiguous_ownership(std::vector<Unit> units, int64_t owners);

/// The largest divisor of `ranks` that `is_possible` at which balanced_ownership() stays within
/// `most` imbalance.
int64_t largest_balanced_group(const std::vector<Unit>& units,
                               int64_t ranks,
                               const std::function<bool(int64_t)>& is_possible,
                               double most = 1.1);

}  // namespace braid
