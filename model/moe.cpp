// Local letter: R rows that arrive at the experts of one wave, one for each (token, choice).
#include "model/moe.h"

#include <ATen/ATen.h>

#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/precision.h"
#include "kernels/swiglu.h"

namespace braid {

Moe::Moe(const Scope& scope, const ModelConfig& config, RoutingKind kind, const ExpertRanks& ranks)
    : limit_(config.swiglu_limit),
      num_experts_(config.n_routed_experts),
      qat_(config.qat_experts),
      ranks_(ranks),
      router_(scope.inner("gate"), config, kind) {
  const int64_t E = num_experts_ / ranks.size(), F = config.moe_intermediate_size,
                D = config.hidden_size;
  const int64_t first = ranks.rank() * E;
  const auto w1 = stack_from("experts.*.w1.weight", first),
             w2 = stack_from("experts.*.w2.weight", first),
             w3 = stack_from("experts.*.w3.weight", first);
  // Quantization-aware training rounds them to other values first.
  const bool as_they_are = qat_ == QuantFormat::kOff;
  experts_.w1 = scope.expert_linear(w1, {E, F, D}, as_they_are);
  experts_.w2 = scope.expert_linear(w2, {E, D, F}, as_they_are);
  experts_.w3 = scope.expert_linear(w3, {E, F, D}, as_they_are);
  experts_.adapters = scope.expert_adapters({w1, w2, w3}, E, F, D);
  adapters_use_ = scope.lora_use();
  qat_use_ = scope.qat_use();
  if (config.n_shared_experts > 0) {
    shared_w1_ = scope.linear("shared_experts.w1.weight", {F, D});
    shared_w2_ = scope.linear("shared_experts.w2.weight", {D, F});
    shared_w3_ = scope.linear("shared_experts.w3.weight", {F, D});
  }
}

at::Tensor Moe::routed(const at::Tensor& x_TD, const Routing& routing, LayerObserver shown) const {
  auto experts = experts_.rounded_to(qat_use_->on ? qat_ : QuantFormat::kOff);
  if (adapters_use_->off) {
    experts.adapters = {};
  }
  if (shown.observer != nullptr) {
    const int64_t first_expert = ranks_.rank() * (num_experts_ / ranks_.size());
    shown.observer->routed_experts(shown.layer, x_TD, routing.experts_TK, experts, first_expert);
  }
  if (ranks_.size() == 1) {
    return forward_experts(x_TD, routing.experts_TK, routing.weights_TK, experts, limit_);
  }
  const auto waves = experts.split(wave_bounds(num_experts_ / ranks_.size(), ranks_.waves));
  const auto wave = [&](int64_t index,
                        const at::Tensor& x_RD,
                        const at::Tensor& expert_R,
                        const at::Tensor& weight_R) {
    const auto expert_R1 = expert_R.unsqueeze(1), weight_R1 = weight_R.unsqueeze(1);
    // One choice a row: what is summed there is one result, whose type holds it exactly.
    const auto& of_wave = waves[static_cast<std::size_t>(index)];
    return forward_experts(x_RD, expert_R1, weight_R1, of_wave, limit_).to(x_RD.scalar_type());
  };
  return exchanged_experts(ranks_,
                           num_experts_,
                           x_TD,
                           routing.experts_TK,
                           routing.weights_TK,
                           wide_type(x_TD.scalar_type()),
                           wave);
}

Moe::Output Moe::forward(const at::Tensor& x_BSD,
                         const at::Tensor& ids_BS,
                         const at::Tensor& given_TK,
                         LayerObserver shown) const {
  const auto [B, S, D] = sizes<3>(x_BSD);
  const auto x_TD = x_BSD.reshape({B * S, D});
  auto chosen =
      profiled("router", [&] { return router_.forward(x_TD, ids_BS.flatten(), given_TK); });
  auto y_TD = profiled("experts", [&] { return routed(x_TD, chosen, shown); });
  if (shared_w1_.defined()) {
    const ProfileScope scope("shared expert");
    const auto gate_up = forward_each(x_TD, {shared_w1_, shared_w3_});
    if (shown.observer != nullptr) {
      shown.observer->shared_expert(shown.layer, gate_up[0], gate_up[1]);
    }
    const auto hidden_TF = clamped_swiglu(gate_up[0], gate_up[1], limit_);
    y_TD = y_TD + widened(shared_w2_.forward(hidden_TF));
  }
  return {y_TD.to(x_BSD.scalar_type()).view({B, S, D}), std::move(chosen)};
}

}  // namespace braid
