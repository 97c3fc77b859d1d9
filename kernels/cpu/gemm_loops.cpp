#include "kernels/cpu/gemm_loops.h"

#if defined(__AVX512F__)
#define BRAID_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define BRAID_VECTOR_BYTES 32
#else
#define BRAID_VECTOR_BYTES 16
#endif

#include "kernels/cpu/gemm_tile.h"

namespace braid::BRAID_CPU_ISA {
namespace {

struct Singles {
  static constexpr int64_t kPair = 1;
  static Floats multiply_add(const Floats& sum, const Floats& a, const Floats& b) {
    return sum + a * b;
  }
};

#if defined(__AVX512BF16__)
struct Pairs {
  static constexpr int64_t kPair = 2;
  static Floats multiply_add(const Floats& sum, const Floats& a, const Floats& b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
  }
};
#else
using Pairs = Singles;
#endif

}  // namespace

GemmKernels gemm_of_floats() {
  return kernels_of<Singles>();
}

GemmKernels gemm_of_bf16() {
  return kernels_of<Pairs>();
}

}  // namespace braid::BRAID_CPU_ISA
