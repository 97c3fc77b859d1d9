#pragma once
#include <string>
#include <vector>

#include "optim/param_groups.h"

namespace braid {

/// Which parameter is in which group, one line per kind of parameter, for people:
///   parameter                       optimizer  shape      tensors  matrices    lr  decay  elements
///   layers.{0-5}.attn.wo_a.weight   muon       [64, 64]         6  12 x 32x64   1    0.1     24576
/// Layers that differ in nothing but their number share a line.
std::string group_table(const std::vector<GroupedParameter>& parameters);

/// The same by group, a line for each optimizer with its learning rate and decay:
///   optimizer  lr  decay  elements  tensors  parts
///   muon       1   0.1       24672       12  attention, experts
std::string group_summary(const std::vector<GroupedParameter>& parameters);

}  // namespace braid
