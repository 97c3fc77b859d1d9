// Local letter: R rows, one for each (token, choice) pair, sorted by expert.
#include "kernels/experts.h"

#include <ATen/ATen.h>
#include <torch/custom_class.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/device.h"
#include "kernels/experts_cpu.h"
#include "kernels/precision.h"

namespace braid {
namespace {

// Stacks are inputs of the Function, so that they get gradients; quantized matrices are not.
struct QuantizedExperts : torch::CustomClassHolder {
  ExpertMatrices w;
  explicit QuantizedExperts(ExpertMatrices matrices) : w(std::move(matrices)) {}
};

std::optional<at::Tensor> stack_in(const ExpertWeights& weights, at::ScalarType type) {
  return weights.quantized() ? std::nullopt : std::optional(weights.stack().to(wide_type(type)));
}

class ExpertsFunction : public Function<ExpertsFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& x_TD,
                            const at::Tensor& experts_TK,
                            const at::Tensor& weights_TK,
                            const std::optional<at::Tensor>& stack1_EFD,
                            const std::optional<at::Tensor>& stack2_EDF,
                            const std::optional<at::Tensor>& stack3_EFD,
                            const ExpertMatrices& quantized,
                            double limit) {
    const auto w = stack1_EFD ? ExpertMatrices{*stack1_EFD, *stack2_EDF, *stack3_EFD} : quantized;
    ExpertActivations a;
    const auto out_TD = routed_experts_forward_cpu(x_TD, experts_TK, weights_TK, w, limit, a);
    ctx->save_for_backward({a.x_RD,
                            a.gate_RF,
                            a.up_RF,
                            a.h_RF,
                            a.weight_R,
                            a.token_R,
                            a.row_TK,
                            w.w1_EFD.stack(),
                            w.w2_EDF.stack(),
                            w.w3_EFD.stack()});
    ctx->saved_data["quantized"] =
        at::IValue::make_capsule(c10::make_intrusive<QuantizedExperts>(quantized));
    ctx->saved_data["first_E"] = a.first_E;
    ctx->saved_data["limit"] = limit;
    ctx->saved_data["K"] = a.K;
    return out_TD;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const ExpertActivations activations{saved[0],
                                        saved[1],
                                        saved[2],
                                        saved[3],
                                        saved[4],
                                        saved[5],
                                        saved[6],
                                        ctx->saved_data["first_E"].toIntVector(),
                                        ctx->saved_data["K"].toInt()};
    const auto capsule = ctx->saved_data["quantized"].toCapsule();
    const bool learns = saved[7].defined();
    const auto w = learns ? ExpertMatrices{saved[7], saved[8], saved[9]}
                          : static_cast<const QuantizedExperts&>(*capsule).w;
    const auto wanted = [&](std::size_t stack) {
      constexpr std::size_t kFirstStack = 3;  // among the tensors given to forward()
      return learns && ctx->needs_input_grad(kFirstStack + stack);
    };
    const auto g = routed_experts_backward_cpu(gradients[0],
                                               activations,
                                               w,
                                               ctx->saved_data["limit"].toDouble(),
                                               {wanted(0), wanted(1), wanted(2)});
    return {g.dx_TD,
            at::Tensor(),
            g.dweights_TK,
            g.dw1_EFD,
            g.dw2_EDF,
            g.dw3_EFD,
            at::Tensor(),
            at::Tensor()};  // ids, quantized matrices and limit have none
  }
};

}  // namespace

at::Tensor routed_experts(const at::Tensor& x_TD,
                          const at::Tensor& experts_TK,
                          const at::Tensor& weights_TK,
                          const ExpertWeights& w1_EFD,
                          const ExpertWeights& w2_EDF,
                          const ExpertWeights& w3_EFD,
                          double limit) {
  const auto [T, D] = sizes<2>(x_TD);
  const auto sizes1 = w1_EFD.sizes();
  require(sizes1.size() == 3 && w3_EFD.sizes() == sizes1 &&
              w2_EDF.sizes() == std::vector<int64_t>{sizes1[0], D, sizes1[1]} && sizes1[2] == D &&
              experts_TK.sizes() == weights_TK.sizes() && experts_TK.size(0) == T,
          "[routed_experts] shapes do not fit: x ",
          x_TD.sizes(),
          ", experts ",
          experts_TK.sizes(),
          ", weights ",
          weights_TK.sizes(),
          ", w1 ",
          at::IntArrayRef(sizes1),
          ", w2 ",
          at::IntArrayRef(w2_EDF.sizes()),
          ", w3 ",
          at::IntArrayRef(w3_EFD.sizes()));
  require(w1_EFD.quantized() == w2_EDF.quantized() && w1_EFD.quantized() == w3_EFD.quantized(),
          "[routed_experts] w1, w2 and w3 must all be quantized, or none of them");
  if (kernel_of(x_TD) == Kernel::kPlain) {
    return routed_experts_reference(x_TD, experts_TK, weights_TK, w1_EFD, w2_EDF, w3_EFD, limit);
  }
  const auto type = x_TD.scalar_type();
  ExpertMatrices quantized;
  if (w1_EFD.quantized()) {
    quantized = {w1_EFD, w2_EDF, w3_EFD};
  }
  return ExpertsFunction::apply(x_TD,
                                experts_TK,
                                weights_TK,
                                stack_in(w1_EFD, type),
                                stack_in(w2_EDF, type),
                                stack_in(w3_EFD, type),
                                quantized,
                                limit);
}

}  // namespace braid
