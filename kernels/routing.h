#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

struct Routing {
  at::Tensor experts_TK;  ///< int64, distinct experts of a token
  at::Tensor weights_TK;  ///< wide: normalized scores times the scaling
  at::Tensor scores_TE;   ///< wide: sqrt(softplus(logits)), before any bias
};

/// How a token's experts are chosen.
struct ExpertChoice {
  int64_t picks = 0;         ///< K
  at::Tensor bias_E = {};    ///< the K highest scores + bias, best first; of equals the lower index
  at::Tensor given_TK = {};  ///< or, where this is defined, these experts
};

/// Routing of tokens by their logits, wide [T, E]:
///
///   s = sqrt(softplus(z)),  weight_k = scaling s_k / sum over the token's experts of s.
///
/// Where softplus underflows (below z = -87 in float32) the score is 0 and so is its gradient;
/// where all scores are 0, weights are. Gradients: logits, by way of weights and scores; none
/// through the choice. With one expert a token the weight is constant: then weights have none, and
/// logits get one from the scores alone. Source: docs/equations.md (30) to (32), (63).
Routing route(const at::Tensor& logits_TE, const ExpertChoice& choice, double scaling);

/// The same in plain LibTorch.
Routing route_reference(const at::Tensor& logits_TE, const ExpertChoice& choice, double scaling);

}  // namespace braid
