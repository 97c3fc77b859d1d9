#pragma once
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

/// A tensor under its release name ("layers.3.attn.wq_a.weight").
/// A "*" in the name stands for an index: "layers.3.ffn.experts.*.w1.weight" with value [E, F, D]
/// is the stack of the E tensors "layers.3.ffn.experts.0.w1.weight", ... Each of the stacked
/// tensors is a tensor of its own to optimisers, checkpoints and initialisation.
struct NamedTensor {
  std::string name;
  at::Tensor value;
};

/// Replaces the "*" of a stacked name by an index.
std::string name_in_stack(const std::string& stacked_name, int64_t index);

/// The same tensors with every stack taken apart into views of its slices.
std::vector<NamedTensor> unstacked(const std::vector<NamedTensor>& tensors);

}  // namespace braid
