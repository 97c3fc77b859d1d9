#include "model/moe.h"

#include <ATen/ATen.h>

#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/experts.h"
#include "kernels/precision.h"
#include "kernels/swiglu.h"
#include "kernels/weight.h"

namespace braid {

namespace {

// The waves' shares of the experts' matrices.
std::vector<ExpertWeights> cut(const ExpertWeights& weights, const std::vector<int64_t>& bounds) {
  std::vector<ExpertWeights> parts;
  if (weights.quantized()) {
    for (std::size_t w = 0; w + 1 < bounds.size(); ++w) {
      parts.emplace_back(std::vector<Weight>(weights.each().begin() + bounds[w],
                                             weights.each().begin() + bounds[w + 1]));
    }
    return parts;
  }
  std::vector<int64_t> counts;
  for (std::size_t w = 0; w + 1 < bounds.size(); ++w) {
    counts.push_back(bounds[w + 1] - bounds[w]);
  }
  // One node of the graph for all waves: their gradients meet in one piece.
  for (const auto& part : weights.stack().split_with_sizes(counts, 0)) {
    parts.emplace_back(part);
  }
  return parts;
}

}  // namespace

Moe::Moe(const Scope& scope, const ModelConfig& config, RoutingKind kind, const ExpertRanks& ranks)
    : limit_(config.swiglu_limit),
      num_experts_(config.n_routed_experts),
      qat_(config.qat_experts),
      ranks_(ranks),
      router_(scope.inner("gate"), config, kind) {
  const int64_t E = num_experts_ / ranks.size(), F = config.moe_intermediate_size,
                D = config.hidden_size;
  const int64_t first = ranks.rank() * E;
  w1_EFD_ = scope.experts(stack_from("experts.*.w1.weight", first), {E, F, D});
  w2_EDF_ = scope.experts(stack_from("experts.*.w2.weight", first), {E, D, F});
  w3_EFD_ = scope.experts(stack_from("experts.*.w3.weight", first), {E, F, D});
  if (config.n_shared_experts > 0) {
    shared_w1_FD_ = scope.matrix("shared_experts.w1.weight", {F, D});
    shared_w2_DF_ = scope.matrix("shared_experts.w2.weight", {D, F});
    shared_w3_FD_ = scope.matrix("shared_experts.w3.weight", {F, D});
  }
}

// Codes are rounded already.
ExpertWeights Moe::as_trained(const ExpertWeights& weights) const {
  return weights.quantized() || qat_ == QuantFormat::kOff
             ? weights
             : ExpertWeights(fake_quantized(weights.stack(), qat_));
}

at::Tensor Moe::routed(const at::Tensor& x_TD, const Routing& routing) const {
  const auto w1_EFD = as_trained(w1_EFD_), w2_EDF = as_trained(w2_EDF_),
             w3_EFD = as_trained(w3_EFD_);
  if (ranks_.size() == 1) {
    return routed_experts(
        x_TD, routing.experts_TK, routing.weights_TK, w1_EFD, w2_EDF, w3_EFD, limit_);
  }
  const auto bounds = wave_bounds(num_experts_ / ranks_.size(), ranks_.waves);
  const auto w1 = cut(w1_EFD, bounds), w2 = cut(w2_EDF, bounds), w3 = cut(w3_EFD, bounds);
  const auto wave = [&](int64_t index,
                        const at::Tensor& x_RD,
                        const at::Tensor& expert_R,
                        const at::Tensor& weight_R) {
    const auto w = static_cast<std::size_t>(index);
    // One choice a row: what is summed there is one result, whose type holds it exactly.
    return routed_experts(
               x_RD, expert_R.unsqueeze(1), weight_R.unsqueeze(1), w1[w], w2[w], w3[w], limit_)
        .to(x_RD.scalar_type());
  };
  return exchanged_experts(ranks_,
                           num_experts_,
                           x_TD,
                           routing.experts_TK,
                           routing.weights_TK,
                           wide_type(x_TD.scalar_type()),
                           wave);
}

Moe::Output Moe::forward(const at::Tensor& x_BSD, const at::Tensor& ids_BS) const {
  const auto [B, S, D] = sizes<3>(x_BSD);
  const auto x_TD = x_BSD.reshape({B * S, D});
  auto chosen = profiled("router", [&] { return router_.forward(x_TD, ids_BS.flatten()); });
  auto y_TD = profiled("experts", [&] { return routed(x_TD, chosen); });
  if (shared_w1_FD_.defined()) {
    const ProfileScope scope("shared expert");
    const auto gate_up = project_each(x_TD, {shared_w1_FD_, shared_w3_FD_});
    const auto hidden = clamped_swiglu(gate_up[0], gate_up[1], limit_);
    y_TD = y_TD + widened(project(hidden, shared_w2_DF_));
  }
  return {y_TD.to(x_BSD.scalar_type()).view({B, S, D}), std::move(chosen)};
}

}  // namespace braid
