#pragma once
// Every matrix of a model and the products that read it, made by Scope::linear() and its like under
// the matrix's release name.
//
// Local letters: I inputs and O outputs of a matrix.
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "kernels/experts.h"
#include "kernels/fake_quant.h"
#include "kernels/weight.h"

namespace braid {

/// What is added to the products of one matrix, whose own values may be frozen: the place of LoRA
/// and its like. Scope::linear() is where a name decides whether a matrix has one and where its
/// parameters are declared.
class Adapter {
 public:
  virtual ~Adapter() = default;
  /// Whether it takes part in the pass under way.
  virtual bool is_on() const { return true; }
  /// Added to Linear::forward(x): x [..., in] -> [..., out], of x's type.
  virtual at::Tensor forward(const at::Tensor& x) const = 0;
  /// What Linear::forward(x) becomes: y is that of the matrix alone.
  virtual at::Tensor applied(const at::Tensor& y, const at::Tensor& x) const;
  /// Added to Linear::forward_grouped(x): x_TGI -> [T, G, out / G], of x's type.
  virtual at::Tensor forward_grouped(const at::Tensor& x_TGI) const = 0;
  /// Added to Linear::values(): [out, in], wide.
  virtual at::Tensor delta() const = 0;
};

/// y = x W^T with W [out, in], whose values are floating or stay quantized.
class Linear {
 public:
  Linear() = default;
  explicit Linear(Weight weight) : weight_(std::move(weight)) {}

  bool defined() const { return weight_.defined(); }
  const Weight& weight() const { return weight_; }
  /// The adapter that takes part; null where there is none.
  const Adapter* adapter() const {
    return adapter_ && adapter_->is_on() ? adapter_.get() : nullptr;
  }
  void set_adapter(std::shared_ptr<const Adapter> adapter) { adapter_ = std::move(adapter); }

  /// x [..., in] -> [..., out], of x's type; see project().
  at::Tensor forward(const at::Tensor& x) const;
  /// y_g = x_g W_g^T for G groups of rows of W: x_TGI [T, G, in] -> [T, G, out / G].
  at::Tensor forward_grouped(const at::Tensor& x_TGI) const;
  /// W whole, with what an adapter adds: for operations that take the matrix itself. Floating
  /// values only.
  at::Tensor values() const;

 private:
  Weight weight_;
  std::shared_ptr<const Adapter> adapter_;
};

/// forward() of several matrices with one x, which is read once.
std::vector<at::Tensor> forward_each(const at::Tensor& x, const std::vector<Linear>& matrices);

/// The same, one result behind the other: [..., sum of out], as one product. Floating values only.
at::Tensor forward_joined(const at::Tensor& x, const std::vector<Linear>& matrices);

/// One matrix of each of the experts of a MoE layer (kernels/experts.h). Their adapters add to
/// products of rows sorted by expert, which exist in routed_experts() alone.
class ExpertLinear {
 public:
  ExpertLinear() = default;
  explicit ExpertLinear(ExpertWeights weights) : weights_(std::move(weights)) {}

  const ExpertWeights& weights() const { return weights_; }

  /// With the values that `format` can hold (quantization-aware training), whose gradients are
  /// those of the masters; itself where the format is off, or codes are rounded already.
  ExpertLinear rounded_to(QuantFormat format) const;
  /// Experts [bounds[i], bounds[i + 1]) each.
  std::vector<ExpertLinear> split(const std::vector<int64_t>& bounds) const;

 private:
  ExpertWeights weights_;
};

/// The matrices of a layer's experts, and what adapters add to them.
struct ExpertLinears {
  ExpertLinear w1, w2, w3;
  ExpertAdapters adapters = {};

  /// The matrices rounded, see ExpertLinear::rounded_to(); adapters as they are.
  ExpertLinears rounded_to(QuantFormat format) const;
  /// Experts [bounds[i], bounds[i + 1]) each.
  std::vector<ExpertLinears> split(const std::vector<int64_t>& bounds) const;
};

/// routed_experts() with these matrices.
at::Tensor forward_experts(const at::Tensor& x_TD,
                           const at::Tensor& experts_TK,
                           const at::Tensor& weights_TK,
                           const ExpertLinears& experts,
                           double limit);

}  // namespace braid
