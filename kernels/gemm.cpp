// Local letters: I inputs and O outputs of a matrix.
#include "kernels/gemm.h"

#include <atomic>
#include <utility>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/profile.h"
#include "kernels/autograd.h"
#include "kernels/device.h"
#include "kernels/gemm_cpu.h"

namespace braid {
namespace {

bool has_plain_rows(const at::Tensor& t) {
  return t.stride(1) == 1 || t.size(1) == 1;
}

bool has_plain_columns(const at::Tensor& t) {
  return t.stride(0) == 1 || t.size(0) == 1;
}

bool is_bf16(const at::Tensor& t) {
  return t.scalar_type() == at::kBFloat16;
}

GemmOperand operand(const at::Tensor& matrix, bool rounded) {
  const bool by_columns = !has_plain_rows(matrix);
  return {matrix.const_data_ptr(),
          matrix.stride(by_columns ? 1 : 0),
          by_columns,
          is_bf16(matrix),
          rounded && !is_bf16(matrix)};
}

bool is_single(const at::Tensor& t) {
  return t.scalar_type() == at::kFloat || is_bf16(t);
}

void check(const MatrixProduct& product) {
  const auto& [a, b, c] = product;
  require(b.size(0) == a.size(1) && c.size(0) == a.size(0) && c.size(1) == b.size(1),
          "[multiply] shapes do not fit: ",
          a.sizes(),
          " ",
          b.sizes(),
          " -> ",
          c.sizes());
  require((is_single(a) && is_single(b) && is_single(c)) ||
              (a.scalar_type() == b.scalar_type() && a.scalar_type() == c.scalar_type()),
          "[multiply] types do not fit: ",
          a.scalar_type(),
          " ",
          b.scalar_type(),
          " -> ",
          c.scalar_type(),
          "; expected one type, or float32 and bfloat16");
}

at::Tensor without_gaps(const at::Tensor& matrix) {
  return has_plain_rows(matrix) || has_plain_columns(matrix) ? matrix : matrix.contiguous();
}

std::atomic<Float32Products> of_float32 = Float32Products::kExact;

class LinearFunction : public Function<LinearFunction> {
 public:
  static variable_list forward(AutogradContext* ctx,
                               const at::Tensor& x_TI,
                               at::TensorList weights_OI,
                               const std::vector<at::Tensor>& operands_OI) {
    ctx->set_materialize_grads(false);
    variable_list saved = {x_TI}, results;
    saved.insert(saved.end(), operands_OI.begin(), operands_OI.end());
    saved.insert(saved.end(), weights_OI.begin(), weights_OI.end());
    std::vector<MatrixProduct> products;
    for (const auto& w_OI : operands_OI) {
      results.push_back(at::empty({x_TI.size(0), w_OI.size(0)}, x_TI.options()));
      products.push_back({x_TI, w_OI.t(), results.back()});
    }
    ctx->save_for_backward(saved);
    multiply_each(products);
    return results;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto& x_TI = saved[0];
    const std::size_t count = gradients.size();
    variable_list results(count + 2);  // the operands have none of their own
    std::vector<MatrixProduct> of_x, of_weights;
    for (std::size_t i = 0; i < count; ++i) {
      if (!gradients[i].defined()) {
        continue;
      }
      const auto dy_TO = gradients[i].contiguous();
      const auto &operand_OI = saved[i + 1], &w_OI = saved[count + i + 1];
      if (ctx->needs_input_grad(0)) {
        if (!results[0].defined()) {
          results[0] = at::empty(x_TI.sizes(), x_TI.options());
        }
        of_x.push_back({dy_TO, operand_OI, results[0]});
      }
      if (ctx->needs_input_grad(i + 1)) {
        results[i + 1] = at::empty(w_OI.sizes(), w_OI.options());
        of_weights.push_back({dy_TO.t(), x_TI, results[i + 1]});
      }
    }
    for (std::size_t i = 0; i < of_x.size(); ++i) {
      multiply_each({of_x[i]}, /*accumulate=*/i > 0);
    }
    multiply_each(of_weights);
    return results;
  }
};

}  // namespace

void use_float32_products(Float32Products products) {
  const bool splits = products == Float32Products::kBf16x3 && cpu_isa() == CpuIsa::kAmx;
  of_float32 = splits ? products : Float32Products::kExact;
  at::globalContext().setAllowTF32CuBLAS(products == Float32Products::kTf32);
}

Float32Products float32_products() {
  return of_float32;
}

void multiply(const at::Tensor& a, const at::Tensor& b, at::Tensor& c, bool accumulate) {
  multiply_each({{a, b, c}}, accumulate);
}

void multiply_each(const std::vector<MatrixProduct>& products, bool accumulate) {
  std::vector<GemmProduct> of_floats, of_bf16;
  std::vector<at::Tensor> used;                           // whose memory these products point to
  std::vector<std::pair<at::Tensor, at::Tensor>> copied;  // float32 sums -> where they go
  for (const auto& product : products) {
    check(product);
    auto [a, b, c] = product;
    const int64_t m = a.size(0), n = b.size(1), k = a.size(1);
    count_flops(2 * m * n * k);
    if (kernel_of(c) == Kernel::kPlain) {
      multiply_reference(a, b, c, accumulate);
      continue;
    }
    constexpr int64_t kWorthBlocks = 1 << 14;  // multiplications
    const bool bf16 = is_bf16(a) || is_bf16(b);
    const bool few = m < 4 || m * n * k < kWorthBlocks;
    if (!is_single(a) || (few && !bf16 && !is_bf16(c)) || m * n * k == 0) {
      if (accumulate) {
        c.addmm_(a.to(c.scalar_type()), b.to(c.scalar_type()));
      } else {
        at::mm_out(c, a.to(c.scalar_type()), b.to(c.scalar_type()));
      }
      continue;
    }
    // A rounded sum takes its right operand whole; where that is too large, or where rows have
    // gaps, the sum goes through memory.
    if (!has_plain_rows(c) || (is_bf16(c) && n * k > kPackedUnits)) {
      const auto sums = accumulate ? c.to(at::kFloat, false, true).contiguous()
                                   : at::empty(c.sizes(), c.options().dtype(at::kFloat));
      copied.emplace_back(sums, c);
      c = sums;
    }
    a = without_gaps(a);
    b = without_gaps(b);
    used.insert(used.end(), {a, b, c});
    (bf16 ? of_bf16 : of_floats)
        .push_back({operand(a, bf16),
                    operand(b, bf16),
                    c.mutable_data_ptr(),
                    c.stride(0),
                    is_bf16(c),
                    m,
                    n,
                    k});
  }
  multiply_floats_cpu(of_floats, accumulate);
  multiply_bf16_cpu(of_bf16, accumulate);
  for (auto& [sums, c] : copied) {
    c.copy_(sums);
  }
}

at::Tensor multiplied(const at::Tensor& a, const at::Tensor& b) {
  auto c = at::empty({a.size(0), b.size(1)}, a.options());
  multiply(a, b, c);
  return c;
}

std::vector<at::Tensor> linear_products(const at::Tensor& x,
                                        const std::vector<at::Tensor>& weights,
                                        const std::vector<at::Tensor>& operands) {
  auto results = LinearFunction::apply(
      x.reshape({-1, x.size(-1)}), at::TensorList(weights), operands.empty() ? weights : operands);
  auto sizes = x.sizes().vec();
  for (auto& y : results) {
    sizes.back() = y.size(1);
    y = y.view(sizes);
  }
  return results;
}

at::Tensor linear_product(const at::Tensor& x, const at::Tensor& w) {
  return linear_products(x, {w})[0];
}

}  // namespace braid
