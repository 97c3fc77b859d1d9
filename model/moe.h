#pragma once
#include <ATen/core/Tensor.h>

#include "model/observer.h"
#include "model/router.h"
#include "parallel/expert_exchange.h"

namespace braid {

/// A mixture of experts: the routed ones and a shared one that every token visits
/// (docs/equations.md (33), (34)). Where several ranks divide the experts, each holds its share of
/// them and tokens travel.
class Moe {
 public:
  Moe(const Scope& scope,
      const ModelConfig& config,
      RoutingKind kind,
      const ExpertRanks& ranks = {});

  struct Output {
    at::Tensor y_BSD;
    Routing routing;
  };
  /// x_BSD the normed input, ids_BS its tokens; `given_TK` as in Router::forward().
  Output forward(const at::Tensor& x_BSD,
                 const at::Tensor& ids_BS,
                 const at::Tensor& given_TK = {},
                 LayerObserver shown = {}) const;

  const Router& router() const { return router_; }

 private:
  at::Tensor routed(const at::Tensor& x_TD, const Routing& routing, LayerObserver shown) const;

  double limit_;
  int64_t num_experts_;
  QuantFormat qat_;
  ExpertRanks ranks_;
  Router router_;
  ExpertLinears experts_;
  std::shared_ptr<const LoraUse> adapters_use_;
  std::shared_ptr<const QatUse> qat_use_;
  Linear shared_w1_, shared_w2_, shared_w3_;  // undefined without a shared expert
};

}  // namespace braid
