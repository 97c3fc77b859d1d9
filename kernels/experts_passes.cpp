// Local letter: R rows, one for each (token, choice) pair, sorted by expert.
#include "kernels/experts_passes.h"

#include <ATen/ATen.h>

#include "kernels/expert_rows.h"
#include "kernels/gemm.h"
#include "kernels/precision.h"
#include "kernels/swiglu.h"
#include "kernels/weight.h"

namespace braid {
namespace {

// Calls f(e, first row, rows) for every expert that has rows.
template <class F>
void for_each_visited(const std::vector<int64_t>& first_E, const F& f) {
  for (std::size_t e = 0; e + 1 < first_E.size(); ++e) {
    if (first_E[e + 1] > first_E[e]) {
      f(static_cast<int64_t>(e), first_E[e], first_E[e + 1] - first_E[e]);
    }
  }
}

// Of each w: out[rows of e] = a[rows of e] w[e]^T for every expert e.
std::vector<at::Tensor> grouped_products(const at::Tensor& a,
                                         const std::vector<const ExpertWeights*>& weights,
                                         const std::vector<int64_t>& first_E) {
  std::vector<at::Tensor> results;
  std::vector<MatrixProduct> products;
  std::vector<QuantizedMatrixProduct> quantized;
  for (const auto* w : weights) {
    const auto& out = results.emplace_back(at::empty({a.size(0), w->sizes()[1]}, a.options()));
    for_each_visited(first_E, [&](int64_t e, int64_t first, int64_t rows) {
      const auto slice = out.narrow(0, first, rows);
      if (w->quantized()) {
        quantized.push_back({a.narrow(0, first, rows), w->each()[e], slice});
      } else {
        products.push_back({a.narrow(0, first, rows), w->stack().select(0, e).t(), slice});
      }
    });
  }
  multiply_each(products);
  multiply_each_quantized(quantized);
  return results;
}

// out[rows of e] (+)= a[rows of e] w[e].
void grouped_product_back(const at::Tensor& a,
                          const ExpertWeights& w,
                          const std::vector<int64_t>& first_E,
                          at::Tensor& out,
                          bool accumulate = false) {
  std::vector<MatrixProduct> products;
  std::vector<QuantizedMatrixProduct> quantized;
  for_each_visited(first_E, [&](int64_t e, int64_t first, int64_t rows) {
    const auto left = a.narrow(0, first, rows), slice = out.narrow(0, first, rows);
    if (w.quantized()) {
      quantized.push_back({left, w.each()[e], slice, 0, /*by_columns=*/true});
    } else {
      products.push_back({left, w.stack().select(0, e), slice});
    }
  });
  multiply_each(products, accumulate);
  multiply_each_quantized(quantized, accumulate);
}

// scale a[rows of e] w[e]^T.
at::Tensor scaled_products(const at::Tensor& a,
                           const ExpertWeights& w_EOI,
                           double scale,
                           const std::vector<int64_t>& first_E) {
  return grouped_products(a, {&w_EOI}, first_E)[0].mul_(scale);
}

// Of each: out[rows of e] += a[rows of e] w[e]^T.
struct AddedProduct {
  at::Tensor a, w_EOI, out;
};
void add_grouped_products(const std::vector<AddedProduct>& each,
                          const std::vector<int64_t>& first_E) {
  std::vector<MatrixProduct> products;
  for (const auto& [a, w_EOI, out] : each) {
    for_each_visited(
        first_E, [&, &a = a, &w_EOI = w_EOI, &out = out](int64_t e, int64_t first, int64_t rows) {
          products.push_back(
              {a.narrow(0, first, rows), w_EOI.select(0, e).t(), out.narrow(0, first, rows)});
        });
  }
  multiply_each(products, /*accumulate=*/true);
}

// Of each a: out[e] = a[rows of e]^T b[rows of e], the gradients of the experts' matrices; zero for
// unused experts.
std::vector<at::Tensor> grouped_gradients(const std::vector<at::Tensor>& left,
                                          const at::Tensor& b,
                                          const std::vector<int64_t>& first_E) {
  const auto E = static_cast<int64_t>(first_E.size()) - 1;
  std::vector<at::Tensor> results;
  for (const auto& a : left) {
    results.push_back(at::empty({E, a.size(1), b.size(1)}, a.options().dtype(wide_type(a))));
  }
  std::vector<MatrixProduct> products;
  for (int64_t e = 0; e < E; ++e) {
    const int64_t first = first_E[e], rows = first_E[e + 1] - first;
    for (std::size_t i = 0; i < left.size(); ++i) {
      const auto out = results[i].select(0, e);
      if (rows == 0) {
        out.zero_();
      } else {
        products.push_back({left[i].narrow(0, first, rows).t(), b.narrow(0, first, rows), out});
      }
    }
  }
  multiply_each(products);
  return results;
}

}  // namespace

at::Tensor routed_experts_forward(const at::Tensor& x_TD,
                                  const at::Tensor& experts_TK,
                                  const at::Tensor& weights_TK,
                                  const ExpertMatrices& w,
                                  const ExpertAdapters& adapters,
                                  double limit,
                                  ExpertActivations& activations) {
  const int64_t K = experts_TK.size(1);
  const auto order = sorted_by_expert(experts_TK, w.w1_EFD.sizes()[0]);
  const auto [x_RD, weight_R] = permute_to_experts(x_TD, weights_TK, order.row_TK);
  const auto inner = grouped_products(x_RD, {&w.w1_EFD, &w.w3_EFD}, order.first_E);
  const auto &gate_RF = inner[0], &up_RF = inner[1];
  const auto& first_E = order.first_E;
  at::Tensor z13_Rr, z2_Rr;
  if (adapters.a13_ErD.defined()) {
    z13_Rr = scaled_products(x_RD, adapters.a13_ErD, adapters.scale13, first_E);
    add_grouped_products(
        {{z13_Rr, adapters.b1_EFr.stack(), gate_RF}, {z13_Rr, adapters.b3_EFr.stack(), up_RF}},
        first_E);
  }
  const auto h_RF = swiglu_rows(gate_RF, up_RF, weight_R, limit);
  const auto y_RD = grouped_products(h_RF, {&w.w2_EDF}, first_E)[0];
  if (adapters.a2_ErF.defined()) {
    z2_Rr = scaled_products(h_RF, adapters.a2_ErF, adapters.scale2, first_E);
    add_grouped_products({{z2_Rr, adapters.b2_EDr.stack(), y_RD}}, first_E);
  }
  activations = {x_RD, gate_RF, up_RF, h_RF, weight_R, order.row_TK, z13_Rr, z2_Rr, first_E, K};
  return combine_of_experts(y_RD, order.row_TK, K);
}

ExpertGradients routed_experts_backward(const at::Tensor& dout_TD,
                                        const ExpertActivations& activations,
                                        const ExpertMatrices& w,
                                        const ExpertAdapters& adapters,
                                        double limit,
                                        const WantedExperts& wanted) {
  const auto& [x_RD, gate_RF, up_RF, h_RF, weight_R, row_TK, z13_Rr, z2_Rr, first_E, K] =
      activations;
  const auto dy_RD = combine_of_experts_backward(dout_TD, row_TK, K, x_RD.scalar_type());
  auto dh_RF = at::empty_like(h_RF), dx_RD = at::empty_like(x_RD);
  ExpertGradients gradients;
  const auto gradient = [&](bool is_wanted, const at::Tensor& left, const at::Tensor& right) {
    return is_wanted ? grouped_gradients({left}, right, activations.first_E)[0] : at::Tensor();
  };

  grouped_product_back(dy_RD, w.w2_EDF, first_E, dh_RF);
  gradients.dw2_EDF = gradient(wanted.w2, dy_RD, h_RF);
  if (z2_Rr.defined()) {
    auto dz_Rr = at::empty_like(z2_Rr);
    grouped_product_back(dy_RD, adapters.b2_EDr, first_E, dz_Rr);
    dz_Rr.mul_(adapters.scale2);
    grouped_product_back(dz_Rr, adapters.a2_ErF, first_E, dh_RF, /*accumulate=*/true);
    gradients.da2_ErF = gradient(wanted.a2, dz_Rr, h_RF);
    gradients.db2_EDr = gradient(wanted.b2, dy_RD, z2_Rr);
  }

  const auto inner = swiglu_rows_backward(gate_RF, up_RF, weight_R, dh_RF, limit);
  // The gradients of w1 and w3 share x.
  std::vector<at::Tensor> of_inner;
  if (wanted.w1) {
    of_inner.push_back(inner.dgate);
  }
  if (wanted.w3) {
    of_inner.push_back(inner.dup);
  }
  const auto dw_inner = grouped_gradients(of_inner, x_RD, first_E);
  gradients.dw1_EFD = wanted.w1 ? dw_inner.front() : at::Tensor();
  gradients.dw3_EFD = wanted.w3 ? dw_inner.back() : at::Tensor();
  grouped_product_back(inner.dgate, w.w1_EFD, first_E, dx_RD);
  grouped_product_back(inner.dup, w.w3_EFD, first_E, dx_RD, /*accumulate=*/true);
  if (z13_Rr.defined()) {
    auto dz_Rr = at::empty_like(z13_Rr);
    grouped_product_back(inner.dgate, adapters.b1_EFr, first_E, dz_Rr);
    grouped_product_back(inner.dup, adapters.b3_EFr, first_E, dz_Rr, /*accumulate=*/true);
    dz_Rr.mul_(adapters.scale13);
    grouped_product_back(dz_Rr, adapters.a13_ErD, first_E, dx_RD, /*accumulate=*/true);
    gradients.da13_ErD = gradient(wanted.a13, dz_Rr, x_RD);
    gradients.db1_EFr = gradient(wanted.b1, inner.dgate, z13_Rr);
    gradients.db3_EFr = gradient(wanted.b3, inner.dup, z13_Rr);
  }
  const auto of_tokens = permute_to_experts_backward({dx_RD, inner.dweight}, row_TK, K);
  gradients.dx_TD = of_tokens.tokens_TD;
  gradients.dweights_TK = of_tokens.weights_TK;
  return gradients;
}

}  // namespace braid
