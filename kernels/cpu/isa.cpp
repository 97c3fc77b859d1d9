#include "kernels/cpu/isa.h"

namespace braid {

CpuIsa cpu_isa() {
  static const CpuIsa best = [] {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      return __builtin_cpu_supports("avx512bf16") ? CpuIsa::kAvx512Bf16 : CpuIsa::kAvx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      return CpuIsa::kAvx2;
    }
#endif
    return CpuIsa::kBaseline;
  }();
  return best;
}

bool has_bf16_products() {
#if defined(__x86_64__)
  static const bool pays = !__builtin_cpu_is("intel");
  return pays && cpu_isa() == CpuIsa::kAvx512Bf16;
#else
  return false;
#endif
}

}  // namespace braid
