#pragma once
// Matrices as a model holds them, and the products that read them.
//
// Local letters: I inputs and O outputs of a matrix.
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "kernels/working_copy.h"

namespace braid {

/// Where the bytes of a matrix of codes lie.
enum class WeightPlace {
  kDevice,  ///< on the device that multiplies by it, which may be the CPU
  kPinned,  ///< in memory of the host, for another device that copies it (model/expert_stream.h)
  /// In a file mapping. The CPU reads the pages ahead of a product and lets them go after it, so
  /// that a model larger than the memory takes part (but see MappedPagesKept); another device
  /// copies them.
  kMapped
};

/// A matrix W [out, in]: floating-point values, or the codes and scales of a published checkpoint
/// (kernels/codec.h). Codes are frozen: products decode them block by block, never whole.
struct Weight {
  at::Tensor values;  ///< floating [out, in]; F8_E4M3 [out, in]; I8 or U8 [out, in / 2]
  at::Tensor scales;  ///< of codes; undefined beside floating values
  WeightPlace place = WeightPlace::kDevice;
  WorkingCopy copy = {};  ///< of floating values, where products should not round them each time

  Weight() = default;
  Weight(at::Tensor floating, WorkingCopy its_copy = {})  // NOLINT: a tensor is a weight
      : values(std::move(floating)), copy(std::move(its_copy)) {}
  Weight(at::Tensor codes, at::Tensor its_scales, WeightPlace its_place = WeightPlace::kDevice)
      : values(std::move(codes)), scales(std::move(its_scales)), place(its_place) {}

  bool defined() const { return values.defined(); }
  bool quantized() const { return scales.defined(); }
  bool mapped() const { return place == WeightPlace::kMapped; }
  int64_t rows() const { return values.size(0); }
  int64_t columns() const;
  int64_t nbytes() const;
  void prefetch() const;       ///< where mapped: asks for the pages
  void release_pages() const;  ///< where mapped: lets go of them, those of the scales too
};

/// Matrices of a layer's experts that are kept elsewhere than where they are multiplied.
class ExpertSupply {
 public:
  virtual ~ExpertSupply() = default;
  /// All of one kind (w1, w2 or w3), on the device. What is given to the current stream may read
  /// them until those of another layer are asked for.
  virtual std::vector<Weight> on_device() = 0;
};

/// The matrices of an MoE layer's experts, all of one shape: one trainable stack [E, out, in],
/// which may have a working copy, or each expert's own, quantized, which may be kept elsewhere than
/// where products read them.
class ExpertWeights {
 public:
  ExpertWeights() = default;
  ExpertWeights(at::Tensor stack_EOI, WorkingCopy copy = {})  // NOLINT: a tensor is a stack
      : stack_(std::move(stack_EOI)), copy_(std::move(copy)) {}
  /// `each` where they are kept; `supply` brings them, unset where products read them right there.
  explicit ExpertWeights(std::vector<Weight> each, std::shared_ptr<ExpertSupply> supply = nullptr)
      : each_(std::move(each)), supply_(std::move(supply)) {}

  bool defined() const { return quantized() || stack_.defined(); }
  bool quantized() const { return !each_.empty(); }
  const at::Tensor& stack() const { return stack_; }  ///< undefined when quantized
  const WorkingCopy& copy() const { return copy_; }   ///< of the stack
  const std::vector<Weight>& each() const { return each_; }
  /// The same where products read them, as long as ExpertSupply::on_device() says: for each pass
  /// anew. Products take these alone.
  ExpertWeights present() const;
  /// Quantized: those of experts [first, end).
  ExpertWeights part(int64_t first, int64_t end) const;
  /// {E, out, in}
  std::vector<int64_t> sizes() const;

 private:
  at::Tensor stack_;
  WorkingCopy copy_;
  std::vector<Weight> each_;
  std::shared_ptr<ExpertSupply> supply_;
  int64_t first_ = 0;  // of what the supply brings
};

/// y = x W^T. x [..., in] of any floating type; floating values are cast to it, or read from a
/// working copy of that type, codes decoded to it. Gradients: x, and floating values.
at::Tensor project(const at::Tensor& x, const Weight& weight);
/// project() with each of several matrices.
std::vector<at::Tensor> project_each(const at::Tensor& x, const std::vector<Weight>& weights);
/// The same in plain LibTorch, with the matrix decoded whole.
at::Tensor project_reference(const at::Tensor& x, const Weight& weight);

/// y_g = x_g W_g^T for G groups of rows of W: x_TGI [T, G, in], W [G * O, in] -> [T, G, O].
at::Tensor grouped_project(const at::Tensor& x_TGI, const Weight& weight);
at::Tensor grouped_project_reference(const at::Tensor& x_TGI, const Weight& weight);

/// A product with consecutive rows of quantized weights, those from `first_row` on.
struct QuantizedMatrixProduct {
  at::Tensor a;  ///< [m, in], or [m, rows] with `by_columns`; rows have no gaps
  Weight weight;
  at::Tensor out;  ///< a W^T [m, rows], or a W [m, in]; rows have no gaps
  int64_t first_row = 0;
  bool by_columns = false;  ///< a W
};

/// All of them, without autograd; `out` of different ones must not overlap. `accumulate` adds to
/// them. On the CPU in one parallel region. A device multiplies bfloat16 rows with FP4 codes as
/// they are; other codes are decoded, a matrix at a time.
void multiply_each_quantized(const std::vector<QuantizedMatrixProduct>& products,
                             bool accumulate = false);
/// The same in plain LibTorch.
void multiply_each_quantized_reference(const std::vector<QuantizedMatrixProduct>& products,
                                       bool accumulate = false);

/// While it is there, this thread's products leave the pages of mapped weights in memory for others
/// that follow soon, as a backward pass follows the recomputation of its activations.
class MappedPagesKept {
 public:
  MappedPagesKept();
  ~MappedPagesKept();
  MappedPagesKept(const MappedPagesKept&) = delete;
  MappedPagesKept& operator=(const MappedPagesKept&) = delete;

  static bool on_this_thread();
};

/// Where the time of products with quantized weights went on this thread, in seconds.
struct ProductTimes {
  double multiplying = 0;
  double decoding = 0;
  double waiting = 0;  ///< for pages of mapped weights
};
ProductTimes& product_times();

}  // namespace braid
