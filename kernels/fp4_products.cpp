#include "kernels/fp4_products.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "kernels/autograd.h"
#include "kernels/codec_cpu.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

Fp4Matrix fp4_matrix(const Weight& weight) {
  const auto codes = code_arrays({weight.values, weight.scales});
  return {codes.values, codes.scales};
}

Fp4Products fp4_products(const at::Tensor& a,
                         const at::Tensor& out,
                         const Weight& weight,
                         bool by_columns,
                         bool accumulate) {
  Fp4Products products{};
  products.R = a.size(0);
  products.O = by_columns ? a.size(1) : out.size(1);
  products.I = weight.columns();
  products.a = data<const Bfloat16>(a);
  products.out = data<Bfloat16>(out);
  products.accumulate = accumulate;
  return products;
}

}  // namespace

bool has_fp4_kernel(const at::Tensor& a,
                    const Weight& weight,
                    const at::Tensor& out,
                    bool by_columns) {
  const int64_t rows = (by_columns ? a : out).size(1);
  return kernel_of(a, BRAID_KERNEL(multiply_fp4)) == Kernel::kCuda &&
         out.scalar_type() == at::kBFloat16 && a.is_contiguous() && out.is_contiguous() &&
         weight.quantized() && weight.values.scalar_type() != at::kFloat8_e4m3fn &&
         has_fp4_products(rows, weight.columns());
}

void multiply_fp4_rows(const QuantizedMatrixProduct& product, bool accumulate) {
  const auto& [a, weight, out, first_row, by_columns] = product;
  auto products = fp4_products(a, out, weight, by_columns, accumulate);
  auto& matrix = products.matrices[products.count++] = fp4_matrix(weight);
  matrix.values += first_row * (products.I / 2);
  matrix.scales += first_row * (products.I / kFp4Group);
  queue_kernel<Bfloat16>(a, BRAID_KERNEL(multiply_fp4), products, by_columns);
}

void multiply_fp4_experts(const at::Tensor& a,
                          const std::vector<Weight>& each,
                          const at::Tensor& bounds_E1,
                          const at::Tensor& out,
                          bool by_columns,
                          bool accumulate) {
  auto products = fp4_products(a, out, each.front(), by_columns, accumulate);
  const auto E = static_cast<int64_t>(each.size());
  for (int64_t first = 0; first < E; first += Fp4Products::kMost) {
    products.count = static_cast<int>(std::min<int64_t>(Fp4Products::kMost, E - first));
    products.bounds = data<const int64_t>(bounds_E1) + first;
    std::transform(
        each.begin() + first, each.begin() + first + products.count, products.matrices, fp4_matrix);
    queue_kernel<Bfloat16>(a, BRAID_KERNEL(multiply_fp4), products, by_columns);
  }
}

}  // namespace braid
