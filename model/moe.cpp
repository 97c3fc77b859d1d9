#include "model/moe.h"

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/experts.h"
#include "kernels/precision.h"
#include "kernels/swiglu.h"
#include "kernels/weight.h"

namespace braid {

Moe::Moe(const Scope& scope, const ModelConfig& config, RoutingKind kind)
    : limit_(config.swiglu_limit),
      qat_(config.qat_experts),
      router_(scope.inner("gate"), config, kind) {
  const int64_t E = config.n_routed_experts, F = config.moe_intermediate_size,
                D = config.hidden_size;
  w1_EFD_ = scope.experts("experts.*.w1.weight", {E, F, D});
  w2_EDF_ = scope.experts("experts.*.w2.weight", {E, D, F});
  w3_EFD_ = scope.experts("experts.*.w3.weight", {E, F, D});
  if (config.n_shared_experts > 0) {
    shared_w1_FD_ = scope.matrix("shared_experts.w1.weight", {F, D});
    shared_w2_DF_ = scope.matrix("shared_experts.w2.weight", {D, F});
    shared_w3_FD_ = scope.matrix("shared_experts.w3.weight", {F, D});
  }
}

// Codes are rounded already.
ExpertWeights Moe::as_trained(const ExpertWeights& weights) const {
  return weights.quantised() || qat_ == QuantFormat::kOff
             ? weights
             : ExpertWeights(fake_quantised(weights.stack(), qat_));
}

Moe::Output Moe::forward(const at::Tensor& x_BSD, const at::Tensor& ids_BS) const {
  const auto [B, S, D] = sizes<3>(x_BSD);
  const auto x_TD = x_BSD.reshape({B * S, D});
  auto chosen = router_.forward(x_TD, ids_BS.flatten());
  auto y_TD = routed_experts(x_TD,
                             chosen.experts_TK,
                             chosen.weights_TK,
                             as_trained(w1_EFD_),
                             as_trained(w2_EDF_),
                             as_trained(w3_EFD_),
                             limit_);
  if (shared_w1_FD_.defined()) {
    const auto hidden =
        clamped_swiglu(project(x_TD, shared_w1_FD_), project(x_TD, shared_w3_FD_), limit_);
    y_TD = y_TD + widened(project(hidden, shared_w2_DF_));
  }
  return {y_TD.to(x_BSD.scalar_type()).view({B, S, D}), std::move(chosen)};
}

}  // namespace braid
