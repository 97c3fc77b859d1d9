#pragma once
// The CPU driver of gemm.h: packed products of float32 and bfloat16 matrices on all threads.
#include <cstdint>
#include <vector>

#include "kernels/cpu/gemm_loops.h"

namespace braid {

/// c [m, n] (+)= a [m, k] b [k, n]; rows of c have no gaps and lie ldc elements apart.
struct GemmProduct {
  GemmOperand a, b;
  void* c;
  int64_t ldc;
  bool rounds;  ///< c is bfloat16, else float32; its sums are rounded once
  int64_t m, n, k;
};

/// Units of 32 bits of all right operands that are packed at once: 4 MB. A result that is rounded
/// needs its right operand whole: k n must not be more than this.
inline constexpr int64_t kPackedUnits = 1 << 20;

/// With the given kernels, to which operands of both types must come as they take them.
void multiply_by_kernels_cpu(const GemmKernels& kernels,
                             const std::vector<GemmProduct>& products,
                             bool accumulate);

/// Products of float32 operands, and of operands of which one is bfloat16 (the other is rounded to
/// it).
void multiply_floats_cpu(const std::vector<GemmProduct>& products, bool accumulate);
void multiply_bf16_cpu(const std::vector<GemmProduct>& products, bool accumulate);

}  // namespace braid
