// Local letter: R rows, one for each (token, choice) pair, sorted by expert.
#include "kernels/experts.h"

#include <optional>

#include <ATen/ATen.h>
#include <torch/custom_class.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/experts_passes.h"
#include "kernels/precision.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

// What the backward pass needs beside tensors. Stacks are inputs of the Function, so that they get
// gradients; quantized matrices and working copies are not.
struct SavedExperts : torch::CustomClassHolder {
  ExpertMatrices quantized;
  ExpertBounds bounds;
  SavedExperts(ExpertMatrices matrices, ExpertBounds of_rows)
      : quantized(std::move(matrices)), bounds(std::move(of_rows)) {}
};

// Where products read them, which each pass asks for.
ExpertMatrices present(const ExpertMatrices& w) {
  return {w.w1_EFD.present(), w.w2_EDF.present(), w.w3_EFD.present()};
}

// Wide, as masters are; nothing for codes, or an adapter that is not there.
std::optional<at::Tensor> stack_in(const ExpertWeights& weights, at::ScalarType type) {
  return weights.stack().defined() ? std::optional(weights.stack().to(wide_type(type)))
                                   : std::nullopt;
}

class ExpertsFunction : public Function<ExpertsFunction> {
 public:
  using Optional = std::optional<at::Tensor>;

  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& x_TD,
                            const at::Tensor& experts_TK,
                            const at::Tensor& weights_TK,
                            const Optional& stack1_EFD,
                            const Optional& stack2_EDF,
                            const Optional& stack3_EFD,
                            const Optional& a13_ErD,
                            const Optional& b1_EFr,
                            const Optional& b3_EFr,
                            const Optional& a2_ErF,
                            const Optional& b2_EDr,
                            const ExpertMatrices& given,
                            const ExpertAdapters& factors,
                            double limit) {
    const auto read = [&](const Optional& stack, const ExpertWeights& weights) {
      return stack ? weights.copy().operand_for(x_TD, *stack) : at::Tensor();
    };
    const auto w = stack1_EFD ? ExpertMatrices{read(stack1_EFD, given.w1_EFD),
                                               read(stack2_EDF, given.w2_EDF),
                                               read(stack3_EFD, given.w3_EFD)}
                              : present(given);
    const ExpertAdapters adapters{read(a13_ErD, factors.a13_ErD),
                                  read(b1_EFr, factors.b1_EFr),
                                  read(b3_EFr, factors.b3_EFr),
                                  read(a2_ErF, factors.a2_ErF),
                                  read(b2_EDr, factors.b2_EDr),
                                  factors.scale13,
                                  factors.scale2};
    ExpertActivations a;
    const auto out_TD = routed_experts_forward(x_TD, experts_TK, weights_TK, w, adapters, limit, a);
    ctx->save_for_backward({a.x_RD,
                            a.gate_RF,
                            a.up_RF,
                            a.h_RF,
                            a.weight_R,
                            a.row_TK,
                            a.z13_Rr,
                            a.z2_Rr,
                            w.w1_EFD.stack(),
                            w.w2_EDF.stack(),
                            w.w3_EFD.stack(),
                            adapters.a13_ErD.stack(),
                            adapters.b1_EFr.stack(),
                            adapters.b3_EFr.stack(),
                            adapters.a2_ErF.stack(),
                            adapters.b2_EDr.stack()});
    ctx->saved_data["saved"] = at::IValue::make_capsule(
        c10::make_intrusive<SavedExperts>(stack1_EFD ? ExpertMatrices() : given, a.bounds));
    ctx->saved_data["limit"] = limit;
    ctx->saved_data["scale13"] = factors.scale13;
    ctx->saved_data["scale2"] = factors.scale2;
    ctx->saved_data["K"] = a.K;
    return out_TD;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto capsule = ctx->saved_data["saved"].toCapsule();
    const auto& beside = static_cast<const SavedExperts&>(*capsule);
    const ExpertActivations activations{saved[0],
                                        saved[1],
                                        saved[2],
                                        saved[3],
                                        saved[4],
                                        saved[5],
                                        saved[6],
                                        saved[7],
                                        beside.bounds,
                                        ctx->saved_data["K"].toInt()};
    const bool learns = saved[8].defined();
    const auto w =
        learns ? ExpertMatrices{saved[8], saved[9], saved[10]} : present(beside.quantized);
    const ExpertAdapters adapters{saved[11],
                                  saved[12],
                                  saved[13],
                                  saved[14],
                                  saved[15],
                                  ctx->saved_data["scale13"].toDouble(),
                                  ctx->saved_data["scale2"].toDouble()};
    // Autograd counts the tensors that were given, x, experts and weights first.
    std::size_t next = 3;
    const auto wanted = [&](bool is_given) { return is_given && ctx->needs_input_grad(next++); };
    WantedExperts want;
    want.w1 = wanted(learns);
    want.w2 = wanted(learns);
    want.w3 = wanted(learns);
    want.a13 = wanted(adapters.a13_ErD.defined());
    want.b1 = wanted(adapters.b1_EFr.defined());
    want.b3 = wanted(adapters.b3_EFr.defined());
    want.a2 = wanted(adapters.a2_ErF.defined());
    want.b2 = wanted(adapters.b2_EDr.defined());
    const auto g = routed_experts_backward(
        gradients[0], activations, w, adapters, ctx->saved_data["limit"].toDouble(), want);
    return {g.dx_TD,
            at::Tensor(),
            g.dweights_TK,
            g.dw1_EFD,
            g.dw2_EDF,
            g.dw3_EFD,
            g.da13_ErD,
            g.db1_EFr,
            g.db3_EFr,
            g.da2_ErF,
            g.db2_EDr,
            at::Tensor(),
            at::Tensor(),
            at::Tensor()};  // ids, matrices and factors as they were given, and limit have none
  }
};

bool fits(const ExpertWeights& factor, std::initializer_list<int64_t> shape) {
  return factor.defined() && factor.sizes() == std::vector(shape);
}

// Of the factor A; 0 of what is no stack.
int64_t rank_of(const ExpertWeights& a_ErI) {
  return a_ErI.defined() && a_ErI.sizes().size() == 3 ? a_ErI.sizes()[1] : 0;
}

// All of a pair or none of it, in the shapes of the matrices.
void require_fitting_adapters(const ExpertAdapters& adapters, int64_t E, int64_t F, int64_t D) {
  const auto& [a13, b1, b3, a2, b2, scale13, scale2] = adapters;
  if (a13.defined() || b1.defined() || b3.defined()) {
    const int64_t r = rank_of(a13);
    require(fits(a13, {E, r, D}) && fits(b1, {E, F, r}) && fits(b3, {E, F, r}),
            "[routed_experts] the adapters of w1 and w3 do not fit ",
            E,
            " experts of width ",
            F,
            " on ",
            D,
            " channels: expected A [E, r, D] and B [E, F, r] of both, and got A ",
            a13.defined() ? at::IntArrayRef(a13.sizes()) : at::IntArrayRef());
  }
  if (a2.defined() || b2.defined()) {
    const int64_t r = rank_of(a2);
    require(fits(a2, {E, r, F}) && fits(b2, {E, D, r}),
            "[routed_experts] the adapter of w2 does not fit ",
            E,
            " experts of width ",
            F,
            " on ",
            D,
            " channels: expected A [E, r, F] and B [E, D, r], and got A ",
            a2.defined() ? at::IntArrayRef(a2.sizes()) : at::IntArrayRef());
  }
}

}  // namespace

at::Tensor routed_experts(const at::Tensor& x_TD,
                          const at::Tensor& experts_TK,
                          const at::Tensor& weights_TK,
                          const ExpertWeights& w1_EFD,
                          const ExpertWeights& w2_EDF,
                          const ExpertWeights& w3_EFD,
                          double limit,
                          const ExpertAdapters& adapters) {
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
  require_fitting_adapters(adapters, sizes1[0], sizes1[1], D);
  if (kernel_of(x_TD, BRAID_KERNEL(permute_to_experts)) == Kernel::kPlain) {
    return routed_experts_reference(x_TD,
                                    experts_TK,
                                    weights_TK,
                                    w1_EFD.present(),
                                    w2_EDF.present(),
                                    w3_EFD.present(),
                                    limit,
                                    adapters);
  }
  const auto type = x_TD.scalar_type();
  return ExpertsFunction::apply(x_TD,
                                experts_TK,
                                weights_TK,
                                stack_in(w1_EFD, type),
                                stack_in(w2_EDF, type),
                                stack_in(w3_EFD, type),
                                stack_in(adapters.a13_ErD, type),
                                stack_in(adapters.b1_EFr, type),
                                stack_in(adapters.b3_EFr, type),
                                stack_in(adapters.a2_ErF, type),
                                stack_in(adapters.b2_EDr, type),
                                ExpertMatrices{w1_EFD, w2_EDF, w3_EFD},
                                adapters,
                                limit);
}

}  // namespace braid
