// Local letter: J documents of all rows.
#include "model/router.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kernels/precision.h"

namespace braid {

Router::Router(const Scope& scope, const ModelConfig& config, RoutingKind kind)
    : picks_(config.num_experts_per_tok), scaling_(config.routed_scaling_factor) {
  const int64_t E = config.n_routed_experts, K = picks_;
  gate_ = scope.wide_linear("weight", {E, config.hidden_size});
  if (kind == RoutingKind::kHash) {
    // The release's hash is not published; any table of K distinct experts is valid.
    tid2eid_VK_ = scope.untrained_table("tid2eid", {config.vocab_size, K}, E, [E, K](int64_t i) {
      const int64_t token = i / K, choice = i % K;
      return (K * token + choice) % E;
    });
  } else {
    bias_E_ = scope.untrained_constant("bias", {E}, 0);
  }
}

Routing Router::forward(const at::Tensor& x_TD,
                        const at::Tensor& ids_T,
                        const at::Tensor& given_TK) const {
  const bool by_hash = tid2eid_VK_.defined();
  return route(gate_.forward(widened(x_TD)),
               {.picks = picks_,
                .bias_E = bias_E_,
                .given_TK = by_hash ? tid2eid_VK_.index_select(0, ids_T) : given_TK},
               scaling_);
}

// Whole numbers: any order of summing them gives the same bits.
at::Tensor expert_load(const Routing& routing, const DocumentNumbers& documents) {
  const auto& experts_TK = routing.experts_TK;
  const auto counts_T1 = (documents.number_T < documents.count).to(at::kDouble).unsqueeze(1);
  return at::zeros({routing.scores_TE.size(1)}, counts_T1.options())
      .scatter_add_(0, experts_TK.flatten(), counts_T1.expand_as(experts_TK).flatten());
}

at::Tensor balance_loss_sum(const Routing& routing,
                            const DocumentNumbers& documents,
                            const ContextRanks& ranks) {
  const int64_t E = routing.scores_TE.size(1), K = routing.experts_TK.size(1);
  // Padding goes into a last document that is dropped.
  const auto per_document = [&](const at::Tensor& values_TE) {
    return at::zeros({documents.count + 1, E}, values_TE.options())
        .index_add(0, documents.number_T, values_TE)
        .narrow(0, 0, documents.count);
  };
  // Where every token visits every expert, the loss is constant: sums of shares are 1.
  const auto scores_TE = K == E ? routing.scores_TE.detach() : routing.scores_TE;
  const auto total_T1 = scores_TE.sum(-1, true);
  const auto share_TE = scores_TE / total_T1.where(total_T1 > 0, at::ones({}, total_T1.options()));
  // The loss is linear in P: of what other ranks hold only the visits matter.
  const auto visits_JE =
      sum_over(ranks,
               per_document(at::zeros_like(scores_TE, scores_TE.options().requires_grad(false))
                                .scatter(1, routing.experts_TK, 1)));
  const auto tokens_J1 = visits_JE.sum(-1, true) / K;
  // n_d f_e P_e: one n_d of the two means remains in the denominator.
  return (visits_JE * per_document(share_TE) * (static_cast<double>(E) / K) /
          tokens_J1.clamp_min(1))
      .sum();
}

void balance_bias(const at::Tensor& bias_E, const at::Tensor& load_E, double speed) {
  const at::NoGradGuard no_grad;
  const auto step_E = (load_E.mean() - load_E).sign();
  bias_E.add_(step_E.to(bias_E.options(), /*non_blocking=*/true), speed);
}

}  // namespace braid
