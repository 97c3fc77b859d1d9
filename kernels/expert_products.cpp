// Local letters: R rows; I inputs and O outputs of a matrix.
#include "kernels/expert_products.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/profile.h"
#include "kernels/autograd.h"
#include "kernels/fp4_products.h"
#include "kernels/gemm.h"
#include "kernels/precision.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

// Products of all experts at once, on a device whose kernels know where their rows are.

bool has_stack_kernel(const at::Tensor& a, int64_t O, int64_t I) {
  return kernel_of(a, BRAID_KERNEL(multiply_expert_rows)) == Kernel::kCuda && a.is_contiguous() &&
         has_expert_products(O, I);
}

void multiply_stack(const at::Tensor& a,
                    const at::Tensor& stack_EOI,
                    const ExpertBounds& bounds,
                    const at::Tensor& out,
                    bool by_columns,
                    bool accumulate) {
  const auto matrices = stack_EOI.to(at::kBFloat16).contiguous();
  const ExpertProducts products{data<const int64_t>(bounds.tensor()),
                                a.size(0),
                                matrices.size(0),
                                matrices.size(1),
                                matrices.size(2),
                                data<const Bfloat16>(a),
                                data<const Bfloat16>(matrices),
                                data<Bfloat16>(out),
                                accumulate};
  queue_kernel<Bfloat16>(a, BRAID_KERNEL(multiply_expert_rows), products, by_columns);
}

// out (+)= a w^T, or by columns a w; false where no kernel takes them.
bool multiplied_at_once(const at::Tensor& a,
                        const ExpertWeights& w,
                        const ExpertBounds& bounds,
                        const at::Tensor& out,
                        bool by_columns,
                        bool accumulate) {
  const auto sizes = w.sizes();
  const int64_t O = sizes[1], I = sizes[2];
  if (w.quantized()) {
    if (!has_fp4_kernel(a, w.each().front(), out, by_columns)) {
      return false;
    }
    multiply_fp4_experts(a, w.each(), bounds.tensor(), out, by_columns, accumulate);
  } else {
    if (!has_stack_kernel(a, O, I) || out.scalar_type() != at::kBFloat16) {
      return false;
    }
    multiply_stack(a, w.stack(), bounds, out, by_columns, accumulate);
  }
  count_flops(2 * a.size(0) * O * I);
  return true;
}

void multiply_gradients(const at::Tensor& a_RO,
                        const at::Tensor& b_RI,
                        const ExpertBounds& bounds,
                        const at::Tensor& out_EOI) {
  const int64_t O = a_RO.size(1), I = b_RI.size(1);
  const ExpertGradientProducts products{data<const int64_t>(bounds.tensor()),
                                        bounds.experts(),
                                        O,
                                        I,
                                        data<const Bfloat16>(a_RO),
                                        data<const Bfloat16>(b_RI),
                                        data<float>(out_EOI)};
  queue_kernel<Bfloat16>(a_RO, BRAID_KERNEL(multiply_expert_gradients), products);
  count_flops(2 * a_RO.size(0) * O * I);
}

// Products of each expert.

// Calls f(e, first row, rows) for every expert that has rows.
template <class F>
void for_each_visited(const ExpertBounds& bounds, const F& f) {
  const auto& first_E = bounds.on_host();
  for (std::size_t e = 0; e + 1 < first_E.size(); ++e) {
    if (first_E[e + 1] > first_E[e]) {
      f(static_cast<int64_t>(e), first_E[e], first_E[e + 1] - first_E[e]);
    }
  }
}

// To be multiplied together.
struct ProductsOfEach {
  std::vector<MatrixProduct> products;
  std::vector<QuantizedMatrixProduct> quantized;

  // out = a w^T, or by columns a w.
  void add(const at::Tensor& a,
           const ExpertWeights& w,
           const ExpertBounds& bounds,
           const at::Tensor& out,
           bool by_columns) {
    for_each_visited(bounds, [&](int64_t e, int64_t first, int64_t rows) {
      const auto left = a.narrow(0, first, rows), slice = out.narrow(0, first, rows);
      if (w.quantized()) {
        quantized.push_back({left, w.each()[e], slice, 0, by_columns});
      } else {
        const auto matrix = w.stack().select(0, e);
        products.push_back({left, by_columns ? matrix : matrix.t(), slice});
      }
    });
  }

  void multiply(bool accumulate) const {
    multiply_each(products, accumulate);
    multiply_each_quantized(quantized, accumulate);
  }
};

}  // namespace

std::vector<at::Tensor> expert_products(const at::Tensor& a_RI,
                                        const std::vector<const ExpertWeights*>& weights,
                                        const ExpertBounds& bounds) {
  std::vector<at::Tensor> results;
  ProductsOfEach others;
  for (const auto* w : weights) {
    const auto& out =
        results.emplace_back(at::empty({a_RI.size(0), w->sizes()[1]}, a_RI.options()));
    if (!multiplied_at_once(a_RI, *w, bounds, out, /*by_columns=*/false, /*accumulate=*/false)) {
      others.add(a_RI, *w, bounds, out, /*by_columns=*/false);
    }
  }
  others.multiply(/*accumulate=*/false);
  return results;
}

void add_expert_products(const std::vector<AddedExpertProduct>& each, const ExpertBounds& bounds) {
  ProductsOfEach others;
  for (const auto& [a, w, out] : each) {
    if (!multiplied_at_once(a, w, bounds, out, /*by_columns=*/false, /*accumulate=*/true)) {
      others.add(a, w, bounds, out, /*by_columns=*/false);
    }
  }
  others.multiply(/*accumulate=*/true);
}

void expert_products_back(const at::Tensor& a_RO,
                          const ExpertWeights& w_EOI,
                          const ExpertBounds& bounds,
                          const at::Tensor& out_RI,
                          bool accumulate) {
  if (multiplied_at_once(a_RO, w_EOI, bounds, out_RI, /*by_columns=*/true, accumulate)) {
    return;
  }
  ProductsOfEach products;
  products.add(a_RO, w_EOI, bounds, out_RI, /*by_columns=*/true);
  products.multiply(accumulate);
}

std::vector<at::Tensor> expert_gradients(const std::vector<at::Tensor>& left_RO,
                                         const at::Tensor& b_RI,
                                         const ExpertBounds& bounds) {
  const int64_t E = bounds.experts(), I = b_RI.size(1);
  std::vector<at::Tensor> results;
  const auto has_kernel = [&](const at::Tensor& x) { return has_stack_kernel(x, x.size(1), I); };
  const bool at_once = has_kernel(b_RI) && std::ranges::all_of(left_RO, has_kernel);
  for (const auto& a : left_RO) {
    const auto& out =
        results.emplace_back(at::empty({E, a.size(1), I}, a.options().dtype(wide_type(a))));
    if (at_once) {
      multiply_gradients(a, b_RI, bounds, out);
    }
  }
  if (at_once) {
    return results;
  }
  // Neighbors have b in common.
  std::vector<MatrixProduct> products;
  const auto& first_E = bounds.on_host();
  for (int64_t e = 0; e < E; ++e) {
    const int64_t first = first_E[e], rows = first_E[e + 1] - first;
    for (std::size_t i = 0; i < left_RO.size(); ++i) {
      const auto out = results[i].select(0, e);
      if (rows == 0) {
        out.zero_();
      } else {
        products.push_back(
            {left_RO[i].narrow(0, first, rows).t(), b_RI.narrow(0, first, rows), out});
      }
    }
  }
  multiply_each(products);
  return results;
}

}  // namespace braid
