#pragma once
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

/// A tensor under its release name ("layers.3.attn.wq_a.weight").
/// A "*" in the name stands for an index: "layers.3.ffn.experts.*.w1.weight" with value [E, F, D]
/// is the stack of the E tensors "layers.3.ffn.experts.0.w1.weight", ... Each of the stacked
/// tensors is a tensor of its own to optimizers, checkpoints and initialization. A rank that holds
/// the experts from 16 on has the stack "layers.3.ffn.experts.16+*.w1.weight".
struct NamedTensor {
  std::string name;
  at::Tensor value;
};

/// Whether a name is that of a stack.
bool is_stack(const std::string& name);

/// The name of a stack whose indices begin with `first`.
std::string stack_from(const std::string& stacked_name, int64_t first);

/// Replaces the "*" of a stacked name by an index, which counts from the stack's first tensor.
std::string name_in_stack(const std::string& stacked_name, int64_t index);

/// The same tensors with every stack taken apart into views of its slices.
std::vector<NamedTensor> unstacked(const std::vector<NamedTensor>& tensors);

/// Rows `offset` and on of the tensor `name`, which as a whole has this shape; all of it when
/// offset is 0 and the shapes are equal.
struct TensorPiece {
  std::string name;
  at::Tensor value;
  std::vector<int64_t> shape;
  int64_t offset = 0;

  bool is_whole() const { return value.sizes() == at::IntArrayRef(shape); }
};

/// A whole tensor as a piece.
TensorPiece whole(const NamedTensor& tensor);

/// Elements [begin, end) of a parameter, whole rows of its last dimension (of 1-D ones any), as
/// pieces of the tensors it consists of. `values` has that many elements.
std::vector<TensorPiece> pieces_of(const NamedTensor& parameter,
                                   int64_t begin,
                                   int64_t end,
                                   const at::Tensor& values);

}  // namespace braid
