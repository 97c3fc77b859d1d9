#include <ATen/ATen.h>

#include "kernels/routing.h"

namespace braid {

Routing route_reference(const at::Tensor& logits_TE, const ExpertChoice& choice, double scaling) {
  // softplus(z) = -log_sigmoid(-z) is exact for large |z|. Where it underflows to 0, sqrt has no
  // finite gradient.
  const auto softplus = -at::log_sigmoid(-logits_TE);
  const auto positive = softplus > 0;
  Routing routing;
  routing.scores_TE = softplus.where(positive, at::ones({}, softplus.options())).sqrt() * positive;
  if (choice.given_TK.defined()) {
    routing.experts_TK = choice.given_TK;
  } else {
    const auto selection = routing.scores_TE.detach() + choice.bias_E.to(logits_TE.scalar_type());
    routing.experts_TK = std::get<1>(at::sort(selection, /*stable=*/true, -1, /*descending=*/true))
                             .narrow(-1, 0, choice.picks);
  }
  const auto chosen_TK = routing.scores_TE.gather(-1, routing.experts_TK);
  const auto sum_T1 = chosen_TK.sum(-1, true);
  routing.weights_TK =
      chosen_TK / sum_T1.where(sum_T1 > 0, at::ones({}, sum_T1.options())) * scaling;
  if (routing.experts_TK.size(-1) == 1) {
    routing.weights_TK = routing.weights_TK.detach();  // s / s
  }
  return routing;
}

}  // namespace braid
