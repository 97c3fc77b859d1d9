#pragma once
#include <ATen/core/Tensor.h>

#include "kernels/routing.h"
#include "model/config.h"
#include "model/geometry.h"
#include "model/parameters.h"

namespace braid {

/// Chooses the experts of each token (docs/equations.md (30) to (32)). Learned: the highest
/// scores + bias, where the bias only balances the load and never enters a weight; of equals the
/// lower index wins. Hash: a table of the token ids. Either way the weights come from the learned
/// scores.
class Router {
 public:
  Router(const Scope& scope, const ModelConfig& config, RoutingKind kind);

  /// x_TD the normed input, ids_T the tokens at the same places. Where `given_TK` is defined, a
  /// learned router takes those experts.
  Routing forward(const at::Tensor& x_TD,
                  const at::Tensor& ids_T,
                  const at::Tensor& given_TK = {}) const;

  /// Undefined for a hash layer.
  const at::Tensor& bias() const { return bias_E_; }

 private:
  int64_t picks_;
  double scaling_;
  Linear gate_;
  at::Tensor bias_E_, tid2eid_VK_;
};

/// Tokens per expert, [E] float64; padding is not counted. `documents` of the same tokens.
at::Tensor expert_load(const Routing& routing, const DocumentNumbers& documents);

/// Sequence-wise balance loss (report 4.2; V3's form): over documents d of n_d tokens, the sum of
/// n_d sum_e f_e P_e with f_e = E / (K n_d) times the tokens of d that visit expert e (no gradient)
/// and P_e the mean over d of the scores normalized to sum 1. [] wide; divide by the tokens of the
/// optimizer step. Padding counts nowhere. Constant, without a gradient, where K = E. Where `ranks`
/// divide the sequences, T are this rank's tokens, and the result is its share.
at::Tensor balance_loss_sum(const Routing& routing,
                            const DocumentNumbers& documents,
                            const ContextRanks& ranks = {});

/// bias_e += speed * sign(mean load - load_e), in place: once per optimizer step, with the load of
/// all its tokens (arXiv:2408.15664).
void balance_bias(const at::Tensor& bias_E, const at::Tensor& load_E, double speed);

}  // namespace braid
