#include "kernels/experts.h"

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/precision.h"
#include "kernels/swiglu.h"

namespace braid {
namespace {

// out[rows of e] = a[rows of e] b[e] for every expert e; a [R, X], b [E, X, Y].
at::Tensor grouped_product(const at::Tensor& a,
                           const at::Tensor& b,
                           const std::vector<int64_t>& first_E) {
  auto out = at::empty({a.size(0), b.size(2)}, a.options());
  for (int64_t e = 0; e < b.size(0); ++e) {
    const int64_t first = first_E[e], rows = first_E[e + 1] - first;
    if (rows > 0) {
      auto slice = out.narrow(0, first, rows);
      at::mm_out(slice, a.narrow(0, first, rows), b.select(0, e));
    }
  }
  return out;
}

// out[e] = a[rows of e]^T b[rows of e]: the gradients of the experts' matrices; zero for unused
// experts.
at::Tensor grouped_gradient(const at::Tensor& a,
                            const at::Tensor& b,
                            const std::vector<int64_t>& first_E) {
  const auto E = static_cast<int64_t>(first_E.size()) - 1;
  auto out = at::zeros({E, a.size(1), b.size(1)}, a.options());
  for (int64_t e = 0; e < E; ++e) {
    const int64_t first = first_E[e], rows = first_E[e + 1] - first;
    if (rows > 0) {
      auto slice = out.select(0, e);
      at::mm_out(slice, a.narrow(0, first, rows).t(), b.narrow(0, first, rows));
    }
  }
  return out;
}

// Sums the K rows of each token, in the order of k: deterministic, unlike adding rows where they
// fall.
at::Tensor summed_per_token(const at::Tensor& rows_RD, const at::Tensor& row_TK, int64_t K) {
  return widened(rows_RD.index_select(0, row_TK)).view({-1, K, rows_RD.size(1)}).sum(1);
}

class ExpertsFunction : public Function<ExpertsFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& x_TD,
                            const at::Tensor& experts_TK,
                            const at::Tensor& weights_TK,
                            const at::Tensor& w1_EFD,
                            const at::Tensor& w2_EDF,
                            const at::Tensor& w3_EFD,
                            double limit) {
    const int64_t K = experts_TK.size(1);
    const auto order = sorted_by_expert(experts_TK, w1_EFD.size(0));
    const auto token_R = order.pair_R.div(K, "floor");
    const auto x_RD = x_TD.index_select(0, token_R);
    const auto gate_RF = grouped_product(x_RD, w1_EFD.transpose(1, 2), order.first_E);
    const auto up_RF = grouped_product(x_RD, w3_EFD.transpose(1, 2), order.first_E);
    const auto weight_R = weights_TK.reshape(-1).index_select(0, order.pair_R);
    const auto h_RF =
        swiglu_rows(widened(gate_RF), widened(up_RF), weight_R, limit).to(x_TD.scalar_type());
    const auto y_RD = grouped_product(h_RF, w2_EDF.transpose(1, 2), order.first_E);
    ctx->save_for_backward(
        {x_RD, gate_RF, up_RF, h_RF, weight_R, token_R, order.row_TK, w1_EFD, w2_EDF, w3_EFD});
    ctx->saved_data["first_E"] = order.first_E;
    ctx->saved_data["limit"] = limit;
    ctx->saved_data["K"] = K;
    return summed_per_token(y_RD, order.row_TK, K);
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x_RD = saved[0], &gate_RF = saved[1], &up_RF = saved[2], &h_RF = saved[3],
               &weight_R = saved[4];
    const auto &token_R = saved[5], &row_TK = saved[6], &w1_EFD = saved[7], &w2_EDF = saved[8],
               &w3_EFD = saved[9];
    const auto first_E = ctx->saved_data["first_E"].toIntVector();
    const double limit = ctx->saved_data["limit"].toDouble();
    const int64_t K = ctx->saved_data["K"].toInt();

    const auto dy_RD = gradients[0].to(x_RD.scalar_type()).index_select(0, token_R);
    const auto dw2_EDF = grouped_gradient(dy_RD, h_RF, first_E);
    const auto dh_RF = widened(grouped_product(dy_RD, w2_EDF, first_E));
    const auto inner =
        swiglu_rows_backward(widened(gate_RF), widened(up_RF), weight_R, dh_RF, limit);
    const auto dgate_RF = inner.dgate.to(x_RD.scalar_type()),
               dup_RF = inner.dup.to(x_RD.scalar_type());
    const auto dw1_EFD = grouped_gradient(dgate_RF, x_RD, first_E);
    const auto dw3_EFD = grouped_gradient(dup_RF, x_RD, first_E);
    const auto dx_RD =
        grouped_product(dgate_RF, w1_EFD, first_E).add_(grouped_product(dup_RF, w3_EFD, first_E));
    const auto dx_TD = summed_per_token(dx_RD, row_TK, K).to(x_RD.scalar_type());
    const auto dweights_TK = inner.dweight.index_select(0, row_TK).view({-1, K});
    return {dx_TD,
            at::Tensor(),
            dweights_TK,
            dw1_EFD,
            dw2_EDF,
            dw3_EFD,
            at::Tensor()};  // ids and limit have none
  }
};

}  // namespace

at::Tensor routed_experts(const at::Tensor& x_TD,
                          const at::Tensor& experts_TK,
                          const at::Tensor& weights_TK,
                          const at::Tensor& w1_EFD,
                          const at::Tensor& w2_EDF,
                          const at::Tensor& w3_EFD,
                          double limit) {
  const auto [T, D] = sizes<2>(x_TD);
  const auto [E, F, D1] = sizes<3>(w1_EFD);
  require(w3_EFD.sizes() == w1_EFD.sizes() && w2_EDF.sizes() == at::IntArrayRef({E, D, F}) &&
              D1 == D && experts_TK.sizes() == weights_TK.sizes() && experts_TK.size(0) == T,
          "[routed_experts] shapes do not fit: x ",
          x_TD.sizes(),
          ", experts ",
          experts_TK.sizes(),
          ", weights ",
          weights_TK.sizes(),
          ", w1 ",
          w1_EFD.sizes(),
          ", w2 ",
          w2_EDF.sizes(),
          ", w3 ",
          w3_EFD.sizes());
  const auto type = x_TD.scalar_type();
  return ExpertsFunction::apply(
      x_TD, experts_TK, weights_TK, w1_EFD.to(type), w2_EDF.to(type), w3_EFD.to(type), limit);
}

}  // namespace braid
