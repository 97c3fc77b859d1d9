#include "kernels/newton_schulz.h"

#include <algorithm>
#include <array>
#include <vector>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/newton_schulz_cpu.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

// The iterations on a device, by its kernel for products whose factors are bfloat16. What is only a
// factor is kept in bfloat16; of A, which also is a term, the lower triangle in float32 too.
// Letters: X [n, m] with n <= m.
class DeviceNewtonSchulz {
 public:
  explicit DeviceNewtonSchulz(const at::Tensor& x_Bnm)
      : B_(x_Bnm.size(0)),
        n_(x_Bnm.size(1)),
        m_(x_Bnm.size(2)),
        x_(x_Bnm.to(at::kBFloat16).contiguous()),
        gram_(matrices(n_, at::kFloat)) {}

  /// The result, float32.
  at::Tensor run(const std::vector<std::array<double, 3>>& polynomials, bool in_pairs) {
    for (std::size_t i = 0; i < polynomials.size(); ++i) {
      auto gram = symmetric(x_, x_, &gram_);
      auto p = polynomial(polynomials[i], gram);
      if (in_pairs && i + 1 < polynomials.size()) {
        gram = symmetric(symmetric(gram, p), p, &gram_);
        p = symmetric(polynomial(polynomials[++i], gram), p);
      }
      const bool is_last = i + 1 == polynomials.size();
      const auto next = matrices(m_, is_last ? at::kFloat : at::kBFloat16);
      auto product = product_of(p, x_, m_, n_);
      product.wide = is_last ? data<float>(next) : nullptr;
      product.narrow = is_last ? nullptr : data<Bfloat16>(next);
      multiply(product);
      x_ = next;
    }
    return x_.to(at::kFloat);
  }

 private:
  at::Tensor matrices(int64_t columns, at::ScalarType type) const {
    return at::empty({B_, n_, columns}, x_.options().dtype(type));
  }
  MatrixProducts product_of(const at::Tensor& a,
                            const at::Tensor& b,
                            int64_t columns,
                            int64_t depth) const {
    MatrixProducts product{};
    product.a = data<const Bfloat16>(a);
    product.b = data<const Bfloat16>(b);
    product.of_product = 1;
    product.count = B_;
    product.rows = n_;
    product.columns = columns;
    product.depth = depth;
    return product;
  }
  void multiply(const MatrixProducts& product) const {
    queue_kernel<Bfloat16>(x_, BRAID_KERNEL(multiply_matrices), product);
  }

  // a b^T of matrices whose product is symmetric; also into `wide`, if it is not null.
  at::Tensor symmetric(const at::Tensor& a,
                       const at::Tensor& b,
                       const at::Tensor* wide = nullptr) const {
    const auto result = matrices(n_, at::kBFloat16);
    auto product = product_of(a, b, n_, a.size(2));
    product.symmetric = true;
    product.narrow = data<Bfloat16>(result);
    product.wide = wide != nullptr ? data<float>(*wide) : nullptr;
    multiply(product);
    return result;
  }

  // a I + b A + c A A
  at::Tensor polynomial(const std::array<double, 3>& factors, const at::Tensor& gram) const {
    const auto result = matrices(n_, at::kBFloat16);
    auto product = product_of(gram, gram, n_, n_);
    product.symmetric = true;
    product.narrow = data<Bfloat16>(result);
    product.added = data<const float>(gram_);
    product.of_identity = static_cast<float>(factors[0]);
    product.of_added = static_cast<float>(factors[1]);
    product.of_product = static_cast<float>(factors[2]);
    multiply(product);
    return result;
  }

  int64_t B_, n_, m_;
  at::Tensor x_, gram_;
};

at::Tensor newton_schulz_on_device(const at::Tensor& x_Brc, const NewtonSchulzOptions& options) {
  const auto x = divided_by_norm(x_Brc);
  const bool is_tall = x.size(1) > x.size(2);
  auto result =
      DeviceNewtonSchulz(is_tall ? x.transpose(1, 2) : x)
          .run(newton_schulz_polynomials(options), in_gram_form(x.size(1), x.size(2), options));
  return is_tall ? result.transpose(1, 2) : result;
}

}  // namespace

at::Tensor newton_schulz(const at::Tensor& x_Brc, const NewtonSchulzOptions& options) {
  const auto [B, rows, cols] = sizes<3>(x_Brc);
  require(x_Brc.scalar_type() == at::kFloat || x_Brc.scalar_type() == at::kDouble,
          "[newton_schulz] expected float32 or float64, got ",
          x_Brc.scalar_type());
  if (!x_Brc.is_cpu()) {
    const bool rounds = options.bfloat16_products && x_Brc.scalar_type() == at::kFloat;
    const auto kernel = kernel_of(x_Brc.device(), at::kBFloat16, BRAID_KERNEL(multiply_matrices));
    return rounds && kernel == Kernel::kCuda && has_matrix_products(rows, cols)
               ? newton_schulz_on_device(x_Brc, options)
               : newton_schulz_reference(x_Brc, options);
  }
  const NewtonSchulzProblem problem{B,
                                    rows,
                                    cols,
                                    newton_schulz_polynomials(options),
                                    options.bfloat16_products,
                                    in_gram_form(rows, cols, options)};
  const auto x = x_Brc.contiguous(), result = at::empty_like(x);
  with_wide_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    newton_schulz_cpu<T>(problem, x.const_data_ptr<T>(), data<T>(result));
  });
  return result;
}

bool in_gram_form(int64_t rows, int64_t cols, const NewtonSchulzOptions& options) {
  const auto n = static_cast<double>(std::min(rows, cols)),
             m = static_cast<double>(std::max(rows, cols));
  return options.gram == GramForm::kAlways ||
         (options.gram == GramForm::kAuto && m >= kGramAspect * n);
}

std::vector<std::array<double, 3>> newton_schulz_polynomials(const NewtonSchulzOptions& options) {
  std::vector<std::array<double, 3>> polynomials(options.steps, {3.4445, -4.7750, 2.0315});
  polynomials.insert(polynomials.end(), options.final_steps, {2.0, -1.5, 0.5});
  return polynomials;
}

NewtonSchulzFlops newton_schulz_iteration_flops(int64_t rows, int64_t cols) {
  return newton_schulz_flops(rows, cols, {.steps = 1, .final_steps = 0});
}

NewtonSchulzFlops newton_schulz_flops(int64_t rows,
                                      int64_t cols,
                                      const NewtonSchulzOptions& options) {
  const auto n = static_cast<double>(std::min(rows, cols)),
             m = static_cast<double>(std::max(rows, cols));
  const double nnm = n * n * m, nnn = n * n * n;
  const int64_t iterations = options.steps + options.final_steps;
  const bool gram = in_gram_form(rows, cols, options);
  const auto twos = static_cast<double>(gram ? iterations / 2 : 0),
             ones = static_cast<double>(gram ? iterations % 2 : iterations);
  return {ones * (4 * nnm + 2 * nnn) + twos * (4 * nnm + 10 * nnn),
          ones * (3 * nnm + nnn) + twos * (3 * nnm + 5 * nnn)};
}

}  // namespace braid
