// Local letter: R rows, one for each (token, choice) pair, sorted by expert.
#include "kernels/experts_cpu.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "kernels/autograd.h"
#include "kernels/cpu/bf16_rows.h"
#include "kernels/gemm.h"
#include "kernels/precision.h"
#include "kernels/swiglu.h"

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

// While one expert's matrix is decoded, the disk reads the next one's.
void prefetch_after(int64_t e,
                    const std::vector<Weight>& weights,
                    const std::vector<int64_t>& first_E) {
  for (auto next = static_cast<std::size_t>(e) + 1; next < weights.size(); ++next) {
    if (first_E[next + 1] > first_E[next]) {
      weights[next].prefetch();
      return;
    }
  }
}

// Of each w: out[rows of e] = a[rows of e] w[e]^T for every expert e.
std::vector<at::Tensor> grouped_products(const at::Tensor& a,
                                         const std::vector<const ExpertWeights*>& weights,
                                         const std::vector<int64_t>& first_E) {
  std::vector<at::Tensor> results;
  std::vector<MatrixProduct> products;
  for (const auto* w : weights) {
    const auto& out = results.emplace_back(at::empty({a.size(0), w->sizes()[1]}, a.options()));
    for_each_visited(first_E, [&](int64_t e, int64_t first, int64_t rows) {
      auto slice = out.narrow(0, first, rows);
      if (w->quantized()) {
        prefetch_after(e, w->each(), first_E);
        multiply_by_rows(a.narrow(0, first, rows), w->each()[e], 0, slice);
      } else {
        products.push_back({a.narrow(0, first, rows), w->stack().select(0, e).t(), slice});
      }
    });
  }
  multiply_each(products);
  return results;
}

// out[rows of e] (+)= a[rows of e] w[e].
void grouped_product_back(const at::Tensor& a,
                          const ExpertWeights& w,
                          const std::vector<int64_t>& first_E,
                          at::Tensor& out,
                          bool accumulate = false) {
  std::vector<MatrixProduct> products;
  for_each_visited(first_E, [&](int64_t e, int64_t first, int64_t rows) {
    auto slice = out.narrow(0, first, rows);
    if (!w.quantized()) {
      products.push_back({a.narrow(0, first, rows), w.stack().select(0, e), slice});
      return;
    }
    prefetch_after(e, w.each(), first_E);
    auto product = accumulate ? at::empty_like(slice) : slice;
    multiply_by_columns(a.narrow(0, first, rows), w.each()[e], 0, product);
    if (accumulate) {
      slice.add_(product);
    }
  });
  multiply_each(products, accumulate);
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

// Sums the K rows of each token, in the order of k: deterministic, unlike adding rows where they
// fall. The result has the given type.
at::Tensor summed_per_token(const at::Tensor& rows_RD,
                            const at::Tensor& row_TK,
                            int64_t K,
                            at::ScalarType type) {
  const int64_t T = row_TK.numel() / K, D = rows_RD.size(1);
  auto out_TD = at::empty({T, D}, rows_RD.options().dtype(type));
  const int64_t* row = row_TK.const_data_ptr<int64_t>();
  with_wide_type(type, [&](auto zero) {
    using Wide = decltype(zero);
    parallel_rows(T, K * D / 4, [&](int64_t begin, int64_t end) {
      RowsIn<Wide> rows(rows_RD, D);
      RowsOut<Wide> out(out_TD, D);
      for (int64_t t = begin; t < end; ++t) {
        Wide* sum = out.at(t, 1);
        std::copy_n(rows.at(row[t * K], 1), D, sum);
        for (int64_t k = 1; k < K; ++k) {
          const Wide* addend = rows.at(row[t * K + k], 1);
          for (int64_t i = 0; i < D; ++i) {
            sum[i] += addend[i];
          }
        }
        out.put();
      }
    });
  });
  return out_TD;
}

}  // namespace

ExpertOrder sorted_by_expert(const at::Tensor& experts_TK, int64_t num_experts) {
  const auto pairs = experts_TK.contiguous();
  const int64_t* expert = pairs.data_ptr<int64_t>();
  const int64_t count = pairs.numel();
  ExpertOrder order{at::empty({count}, at::kLong),
                    at::empty({count}, at::kLong),
                    std::vector<int64_t>(num_experts + 1, 0)};
  for (int64_t pair = 0; pair < count; ++pair) {
    require(expert[pair] >= 0 && expert[pair] < num_experts,
            "[routed_experts] expert ",
            expert[pair],
            " of a token is not one of the ",
            num_experts,
            " experts; check the model's tid2eid tables");
    ++order.first_E[expert[pair] + 1];
  }
  for (int64_t e = 0; e < num_experts; ++e) {
    order.first_E[e + 1] += order.first_E[e];
  }
  auto next = order.first_E;
  for (int64_t pair = 0; pair < count; ++pair) {
    const int64_t row = next[expert[pair]]++;
    order.pair_R.data_ptr<int64_t>()[row] = pair;
    order.row_TK.data_ptr<int64_t>()[pair] = row;
  }
  return order;
}

at::Tensor routed_experts_forward_cpu(const at::Tensor& x_TD,
                                      const at::Tensor& experts_TK,
                                      const at::Tensor& weights_TK,
                                      const ExpertMatrices& w,
                                      double limit,
                                      ExpertActivations& activations) {
  const int64_t K = experts_TK.size(1);
  const auto order = sorted_by_expert(experts_TK, w.w1_EFD.sizes()[0]);
  const auto token_R = order.pair_R.div(K, "floor");
  const auto x_RD = x_TD.index_select(0, token_R);
  const auto inner = grouped_products(x_RD, {&w.w1_EFD, &w.w3_EFD}, order.first_E);
  const auto &gate_RF = inner[0], &up_RF = inner[1];
  const auto weight_R = weights_TK.reshape(-1).index_select(0, order.pair_R);
  const auto h_RF = swiglu_rows(gate_RF, up_RF, weight_R, limit);
  const auto y_RD = grouped_products(h_RF, {&w.w2_EDF}, order.first_E)[0];
  activations = {x_RD, gate_RF, up_RF, h_RF, weight_R, token_R, order.row_TK, order.first_E, K};
  return summed_per_token(y_RD, order.row_TK, K, wide_type(x_TD));
}

ExpertGradients routed_experts_backward_cpu(const at::Tensor& dout_TD,
                                            const ExpertActivations& activations,
                                            const ExpertMatrices& w,
                                            double limit,
                                            const std::array<bool, 3>& wanted) {
  const auto& [x_RD, gate_RF, up_RF, h_RF, weight_R, token_R, row_TK, first_E, K] = activations;
  const auto [wants_w1, wants_w2, wants_w3] = wanted;
  const auto dy_RD = dout_TD.to(x_RD.scalar_type()).index_select(0, token_R);
  auto dh_RF = at::empty_like(h_RF), dx_RD = at::empty_like(x_RD);
  grouped_product_back(dy_RD, w.w2_EDF, first_E, dh_RF);
  const auto inner = swiglu_rows_backward(gate_RF, up_RF, weight_R, dh_RF, limit);
  ExpertGradients gradients;
  // The gradients of w1 and w3 share x.
  std::vector<at::Tensor> of_inner;
  if (wants_w1) {
    of_inner.push_back(inner.dgate);
  }
  if (wants_w3) {
    of_inner.push_back(inner.dup);
  }
  const auto dw_inner = grouped_gradients(of_inner, x_RD, first_E);
  gradients.dw1_EFD = wants_w1 ? dw_inner.front() : at::Tensor();
  gradients.dw3_EFD = wants_w3 ? dw_inner.back() : at::Tensor();
  gradients.dw2_EDF = wants_w2 ? grouped_gradients({dy_RD}, h_RF, first_E)[0] : at::Tensor();
  grouped_product_back(inner.dgate, w.w1_EFD, first_E, dx_RD);
  grouped_product_back(inner.dup, w.w3_EFD, first_E, dx_RD, /*accumulate=*/true);
  gradients.dx_TD = summed_per_token(dx_RD, row_TK, K, x_RD.scalar_type());
  gradients.dweights_TK = inner.dweight.index_select(0, row_TK).view({-1, K});
  return gradients;
}

}  // namespace braid
