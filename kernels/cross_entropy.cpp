#include "kernels/cross_entropy.h"

#include <optional>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cross_entropy_cpu.h"
#include "kernels/device.h"
#include "kernels/precision.h"

namespace braid {
namespace {

class CrossEntropyFunction : public Function<CrossEntropyFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given_hidden,
                            const at::Tensor& given_head,
                            const at::Tensor& targets,
                            const std::optional<at::Tensor>& weights,
                            int64_t logit_bytes,
                            bool gradients) {
    const auto hidden = given_hidden.contiguous(), head = given_head.contiguous();
    const auto like = [&](const at::Tensor& given, const at::Tensor& value) {
      return gradients && given.requires_grad() ? at::zeros_like(value) : at::Tensor();
    };
    const auto dhidden = like(given_hidden, hidden), dhead = like(given_head, head);
    const auto losses = cross_entropy_cpu(
        hidden, head, targets, weights.value_or(at::Tensor()), logit_bytes, dhidden, dhead);
    ctx->saved_data["dhidden"] = dhidden;
    ctx->saved_data["dhead"] = dhead;
    return losses.sum(at::kDouble).to(losses.scalar_type());
  }

  // Scales the gradients where they are: a second copy of the head's would be as large as the head.
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    require(ctx->saved_data.count("dhead") == 1,
            "[cross_entropy] the backward pass ran a second time; its gradients are gone");
    auto dhidden = ctx->saved_data["dhidden"].toTensor(),
         dhead = ctx->saved_data["dhead"].toTensor();
    ctx->saved_data.clear();
    for (auto* gradient : {&dhidden, &dhead}) {
      if (gradient->defined()) {
        gradient->mul_(gradients[0]);
      }
    }
    return {dhidden, dhead, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

void require_fitting(const at::Tensor& hidden_TD,
                     const at::Tensor& head_VD,
                     const at::Tensor& targets_T,
                     const at::Tensor& weights_T = {}) {
  const auto [T, D] = sizes<2>(hidden_TD);
  const auto [V, D1] = sizes<2>(head_VD);
  require(D1 == D && targets_T.sizes() == at::IntArrayRef({T}) &&
              targets_T.scalar_type() == at::kLong &&
              head_VD.scalar_type() == wide_type(hidden_TD) &&
              (!weights_T.defined() ||
               (weights_T.sizes() == targets_T.sizes() && weights_T.is_floating_point())),
          "[cross_entropy] shapes or types do not fit: hidden ",
          hidden_TD.scalar_type(),
          " ",
          hidden_TD.sizes(),
          ", head ",
          head_VD.scalar_type(),
          " ",
          head_VD.sizes(),
          ", targets ",
          targets_T.scalar_type(),
          " ",
          targets_T.sizes(),
          ", weights ",
          weights_T.defined() ? text(weights_T.scalar_type(), " ", weights_T.sizes()) : "none");
}

struct CountedTokens {
  at::Tensor hidden_TD, targets_T, index_T;  // index_T: undefined when all are
};

// Tokens that are not counted cost nothing.
CountedTokens counted(const at::Tensor& hidden_TD,
                      const at::Tensor& head_VD,
                      const at::Tensor& targets_T) {
  const int64_t T = targets_T.size(0), V = head_VD.size(0);
  const auto keep_T = targets_T != kIgnoredTarget;
  const auto index_T = keep_T.nonzero().squeeze(-1);
  const bool all = index_T.size(0) == T;
  CountedTokens result{all ? widened(hidden_TD) : widened(hidden_TD.index_select(0, index_T)),
                       all ? targets_T.contiguous() : targets_T.index_select(0, index_T),
                       all ? at::Tensor() : index_T};
  const auto& targets = result.targets_T;
  require(targets.numel() == 0 ||
              (targets.min().item<int64_t>() >= 0 && targets.max().item<int64_t>() < V),
          "[cross_entropy] targets must lie in [0, ",
          V,
          ") or be ",
          kIgnoredTarget);
  return result;
}

}  // namespace

at::Tensor cross_entropy_sum(const at::Tensor& hidden_TD,
                             const at::Tensor& head_VD,
                             const at::Tensor& targets_T,
                             const at::Tensor& weights_T,
                             int64_t logit_bytes) {
  require_fitting(hidden_TD, head_VD, targets_T, weights_T);
  if (kernel_of(hidden_TD) == Kernel::kPlain) {
    return cross_entropy_sum_reference(hidden_TD, head_VD, targets_T, weights_T);
  }
  const auto tokens = counted(hidden_TD, head_VD, targets_T);
  std::optional<at::Tensor> counted_weights_T;
  if (weights_T.defined()) {
    counted_weights_T = (tokens.index_T.defined() ? weights_T.index_select(0, tokens.index_T)
                                                  : weights_T.contiguous())
                            .to(head_VD.scalar_type());
  }
  return CrossEntropyFunction::apply(tokens.hidden_TD,
                                     head_VD,
                                     tokens.targets_T,
                                     counted_weights_T,
                                     logit_bytes,
                                     at::GradMode::is_enabled());
}

at::Tensor cross_entropy_each(const at::Tensor& hidden_TD,
                              const at::Tensor& head_VD,
                              const at::Tensor& targets_T) {
  const at::NoGradGuard no_grad;
  require_fitting(hidden_TD, head_VD, targets_T);
  if (kernel_of(hidden_TD) == Kernel::kPlain) {
    return cross_entropy_each_reference(hidden_TD, head_VD, targets_T);
  }
  const auto tokens = counted(hidden_TD, head_VD, targets_T);
  const auto losses = cross_entropy_cpu(
      tokens.hidden_TD.contiguous(), head_VD.contiguous(), tokens.targets_T, {}, kLogitBytes);
  if (!tokens.index_T.defined()) {
    return losses;
  }
  return at::zeros({targets_T.size(0)}, losses.options()).index_copy(0, tokens.index_T, losses);
}

}  // namespace braid
