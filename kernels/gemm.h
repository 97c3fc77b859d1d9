#pragma once
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

/// c [m, n] = a [m, k] b [k, n], autograd apart. Each matrix has rows or (a and b) columns without
/// gaps; `accumulate` adds to c.
///
/// a, b and c are all float64, or each of them is float32 or bfloat16. Where a or b is bfloat16, a
/// float32 partner is rounded to it while it is packed: masters need no copy. Sums over k are
/// float32, in an order that does not depend on the number of threads, and c is rounded once.
/// bfloat16 pairs go through one instruction where the machine has it (has_bf16_products());
/// elsewhere they are widened while they are packed, so that memory is saved and arithmetic is not.
void multiply(const at::Tensor& a, const at::Tensor& b, at::Tensor& c, bool accumulate = false);
/// The same in plain LibTorch.
void multiply_reference(const at::Tensor& a,
                        const at::Tensor& b,
                        at::Tensor& c,
                        bool accumulate = false);

/// A product among several.
struct MatrixProduct {
  at::Tensor a, b, c;
};

/// All of them at once on all threads; what they write must not overlap. Right operands that
/// neighbors have in common are packed once.
void multiply_each(const std::vector<MatrixProduct>& products, bool accumulate = false);

/// The same as a new tensor, of a's type.
at::Tensor multiplied(const at::Tensor& a, const at::Tensor& b);

/// How this process multiplies float32 matrices by each other.
enum class Float32Products {
  kExact,   ///< by float32 instructions
  kBf16x3,  ///< each factor split into three bfloat16, and six products of those: error below 2^-21
            ///< of |a| |b|, on finite values. On processors with AMX, elsewhere as kExact.
  kTf32,  ///< factors rounded to TF32, by at most 2^-11, and sums in float32. On GPUs by LibTorch's
          ///< products, elsewhere as kExact.
};
void use_float32_products(Float32Products products);
/// What they are on the CPU now: kBf16x3 only where the processor has AMX, else kExact.
Float32Products float32_products();

/// y = x w^T with gradients of both; x [..., in], w [out, in] of x's type, or a float32 master of
/// bfloat16 ones, whose gradient is float32 too.
at::Tensor linear_product(const at::Tensor& x, const at::Tensor& w);
/// The same with several weights of one x, whose gradients are summed as they are computed. With
/// `operands` the products read those in place of the weights, whose values they have, rounded as
/// they would be.
std::vector<at::Tensor> linear_products(const at::Tensor& x,
                                        const std::vector<at::Tensor>& weights,
                                        const std::vector<at::Tensor>& operands = {});

}  // namespace braid
