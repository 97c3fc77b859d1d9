// Compiled for AVX-512 BF16 alone; called only where has_bf16_products().
#include "kernels/gemm_cpu.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>

#define BRAID_CPU_ISA avx512bf16
#define BRAID_VECTOR_BYTES 64
#include "kernels/gemm_tile.h"

namespace braid::avx512bf16 {
namespace {

struct Pairs {
  static constexpr int64_t kPair = 2;
  static Floats multiply_add(const Floats& sum, const Floats& a, const Floats& b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
};

}  // namespace

GemmKernels gemm_of_pairs() {
  return kernels_of<Pairs>();
}

}  // namespace braid::avx512bf16

#else

namespace braid::avx512bf16 {

GemmKernels gemm_of_pairs() {
  return {};
}

}  // namespace braid::avx512bf16

#endif
