#include "kernels/cross_entropy.h"

#include <algorithm>
#include <optional>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cross_entropy_cpu.h"
#include "kernels/gemm.h"
#include "kernels/precision.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

// The loss of every token times its weight (where weights are defined), [T], and the gradients of
// their sum, written where the tensors are defined. Logits exist for `logit_bytes` worth of tokens
// at a time. Tensors without gaps, all but the targets of one wide type.
at::Tensor losses_by_chunks(const at::Tensor& hidden_TD,
                            const at::Tensor& head_VD,
                            const at::Tensor& targets_T,
                            const at::Tensor& weights_T,
                            int64_t logit_bytes,
                            const at::Tensor& dhidden_TD = {},
                            const at::Tensor& dhead_VD = {}) {
  const int64_t T = hidden_TD.size(0), V = head_VD.size(0);
  const bool gradients = dhidden_TD.defined() || dhead_VD.defined();
  const int64_t chunk =
      std::clamp<int64_t>(logit_bytes / (V * static_cast<int64_t>(head_VD.element_size())),
                          64,
                          std::max<int64_t>(T, 64));
  auto losses_T = at::empty({T}, head_VD.options().requires_grad(false));
  auto buffer = at::empty({std::min(chunk, T), V}, losses_T.options());
  for (int64_t first = 0; first < T; first += chunk) {
    const int64_t rows = std::min(chunk, T - first);
    const auto hidden = hidden_TD.narrow(0, first, rows);
    auto logits = buffer.narrow(0, 0, rows);
    multiply(hidden, head_VD.t(), logits);
    with_wide_type(head_VD.scalar_type(), [&](auto zero) {
      using Wide = decltype(zero);
      const auto* weights = weights_T.defined() ? data<Wide>(weights_T) + first : nullptr;
      BRAID_RUN(Wide,
                logits,
                cross_entropy_rows,
                data<Wide>(logits),
                data<int64_t>(targets_T) + first,
                weights,
                data<Wide>(losses_T) + first,
                rows,
                V,
                gradients);
    });
    if (dhidden_TD.defined()) {
      auto dhidden = dhidden_TD.narrow(0, first, rows);
      multiply(logits, head_VD, dhidden);
    }
    if (dhead_VD.defined()) {
      auto dhead = dhead_VD;
      multiply(logits.t(), hidden, dhead, /*accumulate=*/first > 0);
    }
  }
  return losses_T;
}

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
    const auto losses = losses_by_chunks(
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

// On the CPU tokens that are not counted cost nothing. Elsewhere their number would have to be
// waited for: the kernel gives them a loss and gradients of 0.
CountedTokens counted(const at::Tensor& hidden_TD,
                      const at::Tensor& head_VD,
                      const at::Tensor& targets_T) {
  if (!hidden_TD.is_cpu()) {
    return {widened(hidden_TD), targets_T.contiguous(), {}};
  }
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
  if (kernel_of(head_VD, BRAID_KERNEL(cross_entropy_rows)) == Kernel::kPlain) {
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
  if (kernel_of(head_VD, BRAID_KERNEL(cross_entropy_rows)) == Kernel::kPlain) {
    return cross_entropy_each_reference(hidden_TD, head_VD, targets_T);
  }
  const auto tokens = counted(hidden_TD, head_VD, targets_T);
  const auto losses = losses_by_chunks(
      tokens.hidden_TD.contiguous(), head_VD.contiguous(), tokens.targets_T, {}, kLogitBytes);
  if (!tokens.index_T.defined()) {
    return losses;
  }
  return at::zeros({targets_T.size(0)}, losses.options()).index_copy(0, tokens.index_T, losses);
}

}  // namespace braid
