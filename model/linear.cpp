#include "model/linear.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/experts.h"

namespace braid {

at::Tensor Linear::forward(const at::Tensor& x) const {
  const auto y = project(x, weight_);
  return adapter_ ? y + adapter_->forward(x) : y;
}

at::Tensor Linear::forward_grouped(const at::Tensor& x_TGI) const {
  const auto y_TGO = grouped_project(x_TGI, weight_);
  return adapter_ ? y_TGO + adapter_->forward_grouped(x_TGI) : y_TGO;
}

std::vector<at::Tensor> forward_each(const at::Tensor& x, const std::vector<Linear>& matrices) {
  std::vector<Weight> weights;
  for (const auto& matrix : matrices) {
    weights.push_back(matrix.weight());
  }
  auto results = project_each(x, weights);
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    if (const auto& adapter = matrices[i].adapter()) {
      results[i] = results[i] + adapter->forward(x);
    }
  }
  return results;
}

at::Tensor forward_joined(const at::Tensor& x, const std::vector<Linear>& matrices) {
  if (std::ranges::any_of(matrices, [](const auto& each) { return each.adapter() != nullptr; })) {
    return at::cat(forward_each(x, matrices), -1);
  }
  std::vector<at::Tensor> values;
  for (const auto& matrix : matrices) {
    require(!matrix.weight().quantized(),
            "[linear] only matrices of floating values can be joined; one of these has codes");
    values.push_back(matrix.weight().values);
  }
  return project(x, at::cat(values));
}

ExpertLinear ExpertLinear::rounded_to(QuantFormat format) const {
  return weights_.quantized() || format == QuantFormat::kOff
             ? *this
             : ExpertLinear(fake_quantized(weights_.stack(), format));
}

std::vector<ExpertLinear> ExpertLinear::split(const std::vector<int64_t>& bounds) const {
  std::vector<ExpertLinear> parts;
  if (weights_.quantized()) {
    const auto& each = weights_.each();
    for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
      parts.emplace_back(ExpertWeights(
          std::vector<Weight>(each.begin() + bounds[i], each.begin() + bounds[i + 1])));
    }
    return parts;
  }
  std::vector<int64_t> counts;
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    counts.push_back(bounds[i + 1] - bounds[i]);
  }
  // One node of the graph for all parts: their gradients meet in one piece.
  for (const auto& part : weights_.stack().split_with_sizes(counts, 0)) {
    parts.emplace_back(part);
  }
  return parts;
}

at::Tensor forward_experts(const at::Tensor& x_TD,
                           const at::Tensor& experts_TK,
                           const at::Tensor& weights_TK,
                           const ExpertLinear& w1,
                           const ExpertLinear& w2,
                           const ExpertLinear& w3,
                           double limit) {
  return routed_experts(
      x_TD, experts_TK, weights_TK, w1.weights(), w2.weights(), w3.weights(), limit);
}

}  // namespace braid
