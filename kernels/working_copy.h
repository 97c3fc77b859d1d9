#pragma once
#include <cstdint>
#include <memory>

#include <ATen/core/Tensor.h>

namespace braid {

/// The bfloat16 values of a float32 master, for products of bfloat16 activations that would round
/// it each time they read it. They are made when a product asks for them and the master has changed
/// since they were made: LibTorch counts what its operations write (Tensor::_version()), and
/// mark_written() says what others do. A graph of autograd that has saved older values is an error
/// in its backward pass. Copies of this object share the values; an empty one has none.
class WorkingCopy {
 public:
  WorkingCopy() = default;
  /// Takes the memory at once: 2 bytes an element.
  explicit WorkingCopy(const at::Tensor& master);

  bool defined() const { return shared_ != nullptr; }
  /// Of [first, end) of the master's first dimension.
  WorkingCopy part(int64_t first, int64_t end) const;
  /// What products of x read of `master`, whose copy (or part of a copy) this is: the copy where x
  /// is bfloat16, else the master itself. Without gradient where it is the copy.
  at::Tensor operand_for(const at::Tensor& x, const at::Tensor& master) const;

 private:
  struct Shared {
    at::Tensor master, values;
    int64_t version = -1;  // of the master, when the values were made
  };
  std::shared_ptr<Shared> shared_;
  int64_t first_ = 0, end_ = 0;
};

/// Says that something else than an operation of LibTorch has written to x or to a view of it, to
/// working copies and to what autograd has saved.
void mark_written(const at::Tensor& x);

}  // namespace braid
