#include "kernels/experts.h"

#include <ATen/ATen.h>
#include <torch/custom_class.h>

#include "core/sizes.h"
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

// Stacks are inputs of the Function, so that they get gradients; quantized matrices are not.
struct Matrices : torch::CustomClassHolder {
  ExpertWeights w1, w2, w3;
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
                            const Matrices& quantized,
                            double limit) {
    const int64_t K = experts_TK.size(1);
    const auto w1_EFD = chosen(stack1_EFD, quantized.w1), w2_EDF = chosen(stack2_EDF, quantized.w2),
               w3_EFD = chosen(stack3_EFD, quantized.w3);
    const auto order = sorted_by_expert(experts_TK, w1_EFD.sizes()[0]);
    const auto token_R = order.pair_R.div(K, "floor");
    const auto x_RD = x_TD.index_select(0, token_R);
    const auto inner = grouped_products(x_RD, {&w1_EFD, &w3_EFD}, order.first_E);
    const auto &gate_RF = inner[0], &up_RF = inner[1];
    const auto weight_R = weights_TK.reshape(-1).index_select(0, order.pair_R);
    const auto h_RF = swiglu_rows(gate_RF, up_RF, weight_R, limit);
    const auto y_RD = grouped_products(h_RF, {&w2_EDF}, order.first_E)[0];
    ctx->save_for_backward({x_RD,
                            gate_RF,
                            up_RF,
                            h_RF,
                            weight_R,
                            token_R,
                            order.row_TK,
                            w1_EFD.stack(),
                            w2_EDF.stack(),
                            w3_EFD.stack()});
    ctx->saved_data["quantized"] =
        at::IValue::make_capsule(c10::make_intrusive<Matrices>(quantized));
    ctx->saved_data["first_E"] = order.first_E;
    ctx->saved_data["limit"] = limit;
    ctx->saved_data["K"] = K;
    return summed_per_token(y_RD, order.row_TK, K, wide_type(x_TD));
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x_RD = saved[0], &gate_RF = saved[1], &up_RF = saved[2], &h_RF = saved[3],
               &weight_R = saved[4], &token_R = saved[5], &row_TK = saved[6];
    const auto capsule = ctx->saved_data["quantized"].toCapsule();
    const auto& quantized = static_cast<const Matrices&>(*capsule);
    const auto w1_EFD = chosen(saved[7], quantized.w1), w2_EDF = chosen(saved[8], quantized.w2),
               w3_EFD = chosen(saved[9], quantized.w3);
    const auto first_E = ctx->saved_data["first_E"].toIntVector();
    const double limit = ctx->saved_data["limit"].toDouble();
    const int64_t K = ctx->saved_data["K"].toInt();
    const auto learns = [&](std::size_t stack) {
      return !w1_EFD.quantized() && ctx->needs_input_grad(kFirstStack + stack);
    };

    const auto dy_RD = gradients[0].to(x_RD.scalar_type()).index_select(0, token_R);
    auto dh_RF = at::empty_like(h_RF), dx_RD = at::empty_like(x_RD);
    grouped_product_back(dy_RD, w2_EDF, first_E, dh_RF);
    const auto inner = swiglu_rows_backward(gate_RF, up_RF, weight_R, dh_RF, limit);
    // The gradients of w1 and w3 share x.
    std::vector<at::Tensor> of_inner;
    if (learns(0)) {
      of_inner.push_back(inner.dgate);
    }
    if (learns(2)) {
      of_inner.push_back(inner.dup);
    }
    const auto dw_inner = grouped_gradients(of_inner, x_RD, first_E);
    const auto dw1_EFD = learns(0) ? dw_inner.front() : at::Tensor(),
               dw3_EFD = learns(2) ? dw_inner.back() : at::Tensor(),
               dw2_EDF = learns(1) ? grouped_gradients({dy_RD}, h_RF, first_E)[0] : at::Tensor();
    grouped_product_back(inner.dgate, w1_EFD, first_E, dx_RD);
    grouped_product_back(inner.dup, w3_EFD, first_E, dx_RD, /*accumulate=*/true);
    const auto dx_TD = summed_per_token(dx_RD, row_TK, K, x_RD.scalar_type());
    const auto dweights_TK = inner.dweight.index_select(0, row_TK).view({-1, K});
    return {dx_TD,
            at::Tensor(),
            dweights_TK,
            dw1_EFD,
            dw2_EDF,
            dw3_EFD,
            at::Tensor(),
            at::Tensor()};  // ids, quantized matrices and limit have none
  }

 private:
  static constexpr std::size_t kFirstStack = 3;  // among the tensors given to forward()

  static ExpertWeights chosen(const std::optional<at::Tensor>& stack, const ExpertWeights& other) {
    return stack && stack->defined() ? ExpertWeights(*stack) : other;
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
  const auto type = x_TD.scalar_type();
  Matrices quantized;
  if (w1_EFD.quantized()) {
    quantized.w1 = w1_EFD;
    quantized.w2 = w2_EDF;
    quantized.w3 = w3_EFD;
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
