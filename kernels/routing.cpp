#include "kernels/routing.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/routing_cpu.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

class RoutingFunction : public Function<RoutingFunction> {
 public:
  // -> experts, weights, scores.
  static variable_list forward(AutogradContext* ctx,
                               const at::Tensor& given_logits,
                               const ExpertChoice& choice,
                               double scaling) {
    const auto logits = given_logits.contiguous();
    const auto [T_, E] = sizes<2>(logits);
    const bool given = choice.given_TK.defined();
    const auto experts = given ? choice.given_TK.contiguous()
                               : at::empty({T_, choice.picks}, logits.options().dtype(at::kLong));
    const int64_t K = experts.size(1);
    const auto bias = given ? at::Tensor() : choice.bias_E.to(logits.scalar_type()).contiguous();
    auto scores = at::empty_like(logits), weights = at::empty({T_, K}, logits.options());
    with_wide_type(logits.scalar_type(), [&, E = E, tokens = T_](auto zero) {
      using T = decltype(zero);
      const RoutingProblem<T> problem{
          tokens, E, K, static_cast<T>(scaling), data<T>(logits), data<T>(bias)};
      BRAID_RUN(T,
                logits,
                routing_forward,
                problem,
                data<int64_t>(experts),
                data<T>(scores),
                data<T>(weights));
    });
    ctx->save_for_backward({logits, scores, experts});
    ctx->saved_data["scaling"] = scaling;
    ctx->set_materialize_grads(false);  // scores have a gradient only with a balance loss
    // s / s is 1 for any s: its gradient would be nothing but rounding.
    ctx->mark_non_differentiable(K == 1 ? variable_list{experts, weights} : variable_list{experts});
    return {experts, weights, scores};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &logits = saved[0], &scores = saved[1], &experts = saved[2];
    const auto [tokens_, E] = sizes<2>(logits);
    const int64_t K = experts.size(1);
    const double scaling = ctx->saved_data["scaling"].toDouble();
    const auto dweights = gradients[1].defined() ? gradients[1].contiguous()
                                                 : at::zeros({tokens_, K}, logits.options());
    const auto dscores = gradients[2].defined() ? gradients[2].contiguous() : at::Tensor();
    auto dlogits = at::empty_like(logits);
    with_wide_type(logits.scalar_type(), [&, E = E, tokens = tokens_](auto zero) {
      using T = decltype(zero);
      const RoutingProblem<T> problem{
          tokens, E, K, static_cast<T>(scaling), data<T>(logits), nullptr};
      BRAID_RUN(T,
                logits,
                routing_backward,
                problem,
                data<int64_t>(experts),
                data<T>(scores),
                data<T>(dscores),
                data<T>(dweights),
                data<T>(dlogits));
    });
    return {dlogits, at::Tensor(), at::Tensor()};  // choice and scaling have none
  }
};

}  // namespace

Routing route(const at::Tensor& logits_TE, const ExpertChoice& choice, double scaling) {
  const auto [T, E] = sizes<2>(logits_TE);
  const auto& given = choice.given_TK;
  require(given.defined()
              ? given.dim() == 2 && given.size(0) == T && given.scalar_type() == at::kLong
              : choice.bias_E.defined() && choice.bias_E.sizes() == at::IntArrayRef({E}) &&
                    choice.picks >= 1 && choice.picks <= E,
          "[route] shapes do not fit: logits ",
          logits_TE.sizes(),
          ", given experts ",
          given.defined() ? given.sizes() : at::IntArrayRef(),
          ", bias ",
          choice.bias_E.defined() ? choice.bias_E.sizes() : at::IntArrayRef(),
          ", picks ",
          choice.picks);
  const auto kernel = kernel_of(logits_TE, BRAID_KERNEL(routing_forward));
  if (kernel == Kernel::kPlain) {
    return route_reference(logits_TE, choice, scaling);
  }
  // Kernels trust these indices. (To read them from another device would be to wait for it.)
  require(kernel != Kernel::kCpu || !given.defined() || given.numel() == 0 ||
              (given.min().item<int64_t>() >= 0 && given.max().item<int64_t>() < E),
          "[route] experts of a token are not among the ",
          E,
          " experts; check the model's tid2eid tables");
  const auto result = RoutingFunction::apply(logits_TE, choice, scaling);
  return {result[0], result[1], result[2]};
}

}  // namespace braid
