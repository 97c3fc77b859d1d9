#include "model/recompute.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace braid {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct KeptSegment : torch::CustomClassHolder {
  explicit KeptSegment(Segment given) : run(std::move(given)) {}
  Segment run;
};

class RecomputedFunction : public torch::autograd::Function<RecomputedFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const at::Tensor& X, const Segment& segment) {
    ctx->save_for_backward({X});
    ctx->saved_data["segment"] =
        c10::IValue::make_capsule(c10::make_intrusive<KeptSegment>(segment));
    return segment(X, /*again=*/false);  // autograd is off inside a Function
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const at::AutoGradMode with_gradient(true);
    const auto X = ctx->get_saved_variables()[0].detach().requires_grad_(true);
    const auto kept = ctx->saved_data["segment"].toCapsule();
    const auto outputs = static_cast<const KeptSegment&>(*kept).run(X, /*again=*/true);
    variable_list roots, root_gradients;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].requires_grad() && gradients[i].defined()) {
        roots.push_back(outputs[i]);
        root_gradients.push_back(gradients[i]);
      }
    }
    torch::autograd::backward(roots, root_gradients);
    return {X.grad(), at::Tensor()};  // the segment itself has no gradient
  }
};

}  // namespace

std::vector<at::Tensor> recomputed(const Segment& segment, const at::Tensor& X) {
  if (!at::GradMode::is_enabled() || !X.requires_grad()) {
    return segment(X, /*again=*/false);
  }
  return RecomputedFunction::apply(X, segment);
}

}  // namespace braid
