#include "kernels/routing.h"

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/routing_loops.h"

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
    const auto experts =
        given ? choice.given_TK.contiguous() : at::empty({T_, choice.picks}, at::kLong);
    const int64_t K = experts.size(1);
    const auto bias = given ? at::Tensor() : choice.bias_E.to(logits.scalar_type()).contiguous();
    auto scores = at::empty_like(logits), weights = at::empty({T_, K}, logits.options());
    with_wide_type(logits.scalar_type(), [&, E = E, tokens = T_](auto zero) {
      using T = decltype(zero);
      parallel_rows(tokens, 4 * E, [&](int64_t begin, int64_t end) {
        T* rows = scores.data_ptr<T>() + begin * E;
        int64_t* chosen = experts.data_ptr<int64_t>() + begin * K;
        BRAID_CPU(routing_scores<T>)
        (logits.const_data_ptr<T>() + begin * E, rows, (end - begin) * E);
        if (!given) {
          BRAID_CPU(choose_experts<T>)
          (rows, bias.const_data_ptr<T>(), chosen, end - begin, E, K);
        }
        BRAID_CPU(routing_weights<T>)
        (rows,
         chosen,
         weights.data_ptr<T>() + begin * K,
         static_cast<T>(scaling),
         end - begin,
         E,
         K);
      });
    });
    ctx->save_for_backward({logits, scores, experts});
    ctx->saved_data["scaling"] = scaling;
    ctx->set_materialize_grads(false);  // scores have a gradient only with a balance loss
    ctx->mark_non_differentiable({experts});
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
      parallel_rows(tokens, 4 * E, [&](int64_t begin, int64_t end) {
        BRAID_CPU(routing_backward<T>)
        (logits.const_data_ptr<T>() + begin * E,
         scores.const_data_ptr<T>() + begin * E,
         experts.const_data_ptr<int64_t>() + begin * K,
         dscores.defined() ? dscores.const_data_ptr<T>() + begin * E : nullptr,
         dweights.const_data_ptr<T>() + begin * K,
         dlogits.data_ptr<T>() + begin * E,
         static_cast<T>(scaling),
         end - begin,
         E,
         K);
      });
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
  require(!given.defined() || given.numel() == 0 ||
              (given.min().item<int64_t>() >= 0 && given.max().item<int64_t>() < E),
          "[route] experts of a token are not among the ",
          E,
          " experts; check the model's tid2eid tables");
  const auto result = RoutingFunction::apply(logits_TE, choice, scaling);
  return {result[0], result[1], result[2]};
}

}  // namespace braid
