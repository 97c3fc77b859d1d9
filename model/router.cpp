#include "model/router.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kernels/precision.h"
#include "kernels/weight.h"

namespace braid {

Router::Router(const Scope& scope, const ModelConfig& config, RoutingKind kind)
    : picks_(config.num_experts_per_tok), scaling_(config.routed_scaling_factor) {
  const int64_t E = config.n_routed_experts, K = picks_;
  weight_ED_ = scope.normal("weight", {E, config.hidden_size});
  if (kind == RoutingKind::kHash) {
    // The release's hash is not published; any table of K distinct experts is valid.
    tid2eid_VK_ = scope.untrained_table("tid2eid", {config.vocab_size, K}, [E, K](int64_t i) {
      const int64_t token = i / K, choice = i % K;
      return (K * token + choice) % E;
    });
  } else {
    bias_E_ = scope.untrained_constant("bias", {E}, 0);
  }
}

Routing Router::forward(const at::Tensor& x_TD, const at::Tensor& ids_T) const {
  const bool by_hash = tid2eid_VK_.defined();
  return route(project(widened(x_TD), weight_ED_),
               {.picks = picks_,
                .bias_E = bias_E_,
                .given_TK = by_hash ? tid2eid_VK_.index_select(0, ids_T) : at::Tensor()},
               scaling_);
}

at::Tensor expert_load(const Routing& routing, const at::Tensor& documents_BS) {
  const auto experts_TK = routing.experts_TK.contiguous(), documents = documents_BS.contiguous();
  const int64_t K = experts_TK.size(1);
  auto load_E = at::zeros({routing.scores_TE.size(1)}, at::kDouble);
  const int64_t* expert = experts_TK.const_data_ptr<int64_t>();
  for (int64_t t = 0; t < experts_TK.size(0); ++t, expert += K) {
    const bool counts = documents.const_data_ptr<int64_t>()[t] >= 0;
    for (int64_t k = 0; k < K && counts; ++k) {
      load_E.data_ptr<double>()[expert[k]] += 1;
    }
  }
  return load_E;
}

at::Tensor balance_loss_sum(const Routing& routing,
                            const at::Tensor& documents_BS,
                            const ContextRanks& ranks) {
  const int64_t E = routing.scores_TE.size(1), K = routing.experts_TK.size(1);
  // Documents of all rows, numbered through; padding goes into a last one that is dropped.
  const int64_t per_row = documents_BS.max().item<int64_t>() + 1, B = documents_BS.size(0);
  const auto row_B1 = at::arange(B, at::kLong).unsqueeze(1) * per_row;
  const auto document_T =
      ranks.own_share(at::where(documents_BS >= 0, documents_BS + row_B1, B * per_row)).flatten();
  const auto per_document = [&](const at::Tensor& values_TE) {
    return at::zeros({B * per_row + 1, E}, values_TE.options())
        .index_add(0, document_T, values_TE)
        .narrow(0, 0, B * per_row);
  };
  const auto& scores_TE = routing.scores_TE;
  const auto total_T1 = scores_TE.sum(-1, true);
  const auto share_TE = scores_TE / total_T1.where(total_T1 > 0, at::ones({}, total_T1.options()));
  // The loss is linear in P: of what other ranks hold only the visits matter.
  const auto visits_XE =
      sum_over(ranks,
               per_document(at::zeros_like(scores_TE, scores_TE.options().requires_grad(false))
                                .scatter(1, routing.experts_TK, 1)));
  const auto tokens_X1 = visits_XE.sum(-1, true) / K;
  // n_d f_e P_e: one n_d of the two means remains in the denominator.
  return (visits_XE * per_document(share_TE) * (static_cast<double>(E) / K) /
          tokens_X1.clamp_min(1))
      .sum();
}

void balance_bias(const at::Tensor& bias_E, const at::Tensor& load_E, double speed) {
  const at::NoGradGuard no_grad;
  bias_E.add_((load_E.mean() - load_E).sign().to(bias_E.scalar_type()), speed);
}

}  // namespace braid
