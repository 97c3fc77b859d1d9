#include "kernels/cpu/isa.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "core/error.h"

namespace braid {
namespace {

// From the lowest to the highest.
constexpr std::array kNames = {"baseline", "avx2", "avx512", "avx512bf16"};

CpuIsa isa_of_machine() {
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
}

}  // namespace

const char* isa_name(CpuIsa isa) {
  return kNames.at(static_cast<std::size_t>(isa));
}

CpuIsa limited_isa(CpuIsa best, const char* limit) {
  if (limit == nullptr) {
    return best;
  }
  const auto found = std::ranges::find(kNames, std::string_view(limit));
  require(found != kNames.end(),
          "the environment variable BRAID_CPU_ISA is '",
          limit,
          "'; expected baseline, avx2, avx512 or avx512bf16");
  return std::min(best, static_cast<CpuIsa>(found - kNames.begin()));
}

CpuIsa cpu_isa() {
  static const CpuIsa isa = limited_isa(isa_of_machine(), std::getenv("BRAID_CPU_ISA"));
  return isa;
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
