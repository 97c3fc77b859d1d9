#pragma once
#include <ATen/core/Tensor.h>

#include "model/router.h"

namespace braid {

/// A mixture of experts: the routed ones and a shared one that every token visits
/// (architecture.md 2.9).
class Moe {
 public:
  Moe(const Scope& scope, const ModelConfig& config, RoutingKind kind);

  struct Output {
    at::Tensor y_BSD;
    Routing routing;
  };
  /// x_BSD the normed input, ids_BS its tokens.
  Output forward(const at::Tensor& x_BSD, const at::Tensor& ids_BS) const;

  const Router& router() const { return router_; }

 private:
  ExpertWeights as_trained(const ExpertWeights& weights) const;

  double limit_;
  QuantFormat qat_;
  Router router_;
  ExpertWeights w1_EFD_, w2_EDF_, w3_EFD_;
  Weight shared_w1_FD_, shared_w2_DF_, shared_w3_FD_;  // undefined without a shared expert
};

}  // namespace braid
