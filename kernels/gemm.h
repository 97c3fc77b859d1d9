#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

/// c [m, n] = a [m, k] b [k, n], one floating type, autograd apart.  Each matrix has rows or (a and
/// b) columns without gaps; `accumulate` adds to c.  float32 runs on the library's block products,
/// which beat its whole-matrix product on matrices of a model's sizes (bench/gemm_bench); a sum
/// over k does not depend on the number of threads.  Other types run on at::mm.
void multiply(const at::Tensor& a, const at::Tensor& b, at::Tensor& c, bool accumulate = false);

/// The same as a new tensor.
at::Tensor multiplied(const at::Tensor& a, const at::Tensor& b);

/// y = x w^T with gradients of both; x [..., in], w [out, in] of one type.
at::Tensor linear_product(const at::Tensor& x, const at::Tensor& w);

}  // namespace braid
