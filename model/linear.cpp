#include "model/linear.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/error.h"

namespace braid {
namespace {

// One node of the graph for all parts: their gradients meet in one piece.
std::vector<ExpertWeights> split_stack(const ExpertWeights& weights,
                                       const std::vector<int64_t>& bounds) {
  std::vector<int64_t> counts;
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    counts.push_back(bounds[i + 1] - bounds[i]);
  }
  const auto stacks = weights.stack().split_with_sizes(counts, 0);
  std::vector<ExpertWeights> parts;
  for (std::size_t i = 0; i < stacks.size(); ++i) {
    parts.emplace_back(stacks[i], weights.copy().part(bounds[i], bounds[i + 1]));
  }
  return parts;
}

}  // namespace

at::Tensor Adapter::applied(const at::Tensor& y, const at::Tensor& x) const {
  return y + forward(x);
}

at::Tensor Linear::forward(const at::Tensor& x) const {
  const auto y = project(x, weight_);
  return adapter() != nullptr ? adapter_->applied(y, x) : y;
}

at::Tensor Linear::forward_grouped(const at::Tensor& x_TGI) const {
  const auto y_TGO = grouped_project(x_TGI, weight_);
  return adapter() != nullptr ? y_TGO + adapter_->forward_grouped(x_TGI) : y_TGO;
}

at::Tensor Linear::values() const {
  require(!weight_.quantized(), "[linear] the values of a matrix of codes are not there whole");
  return adapter() != nullptr ? weight_.values + adapter_->delta() : weight_.values;
}

std::vector<at::Tensor> forward_each(const at::Tensor& x, const std::vector<Linear>& matrices) {
  std::vector<Weight> weights;
  for (const auto& matrix : matrices) {
    weights.push_back(matrix.weight());
  }
  auto results = project_each(x, weights);
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    if (const auto* adapter = matrices[i].adapter()) {
      results[i] = adapter->applied(results[i], x);
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
    for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
      parts.emplace_back(weights_.part(bounds[i], bounds[i + 1]));
    }
    return parts;
  }
  for (const auto& part : split_stack(weights_, bounds)) {
    parts.emplace_back(part);
  }
  return parts;
}

ExpertLinears ExpertLinears::rounded_to(QuantFormat format) const {
  return {w1.rounded_to(format), w2.rounded_to(format), w3.rounded_to(format), adapters};
}

std::vector<ExpertLinears> ExpertLinears::split(const std::vector<int64_t>& bounds) const {
  const auto w1s = w1.split(bounds), w2s = w2.split(bounds), w3s = w3.split(bounds);
  std::vector<ExpertLinears> parts;
  for (std::size_t i = 0; i < w1s.size(); ++i) {
    parts.push_back({w1s[i], w2s[i], w3s[i], adapters});
  }
  for (const auto member : {&ExpertAdapters::a13_ErD,
                            &ExpertAdapters::b1_EFr,
                            &ExpertAdapters::b3_EFr,
                            &ExpertAdapters::a2_ErF,
                            &ExpertAdapters::b2_EDr}) {
    if ((adapters.*member).defined()) {
      const auto factors = split_stack(adapters.*member, bounds);
      for (std::size_t i = 0; i < parts.size(); ++i) {
        parts[i].adapters.*member = factors[i];
      }
    }
  }
  return parts;
}

at::Tensor forward_experts(const at::Tensor& x_TD,
                           const at::Tensor& experts_TK,
                           const at::Tensor& weights_TK,
                           const ExpertLinears& experts,
                           double limit) {
  return routed_experts(x_TD,
                        experts_TK,
                        weights_TK,
                        experts.w1.weights(),
                        experts.w2.weights(),
                        experts.w3.weights(),
                        limit,
                        experts.adapters);
}

}  // namespace braid
