#include "kernels/cpu/isa.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "core/error.h"

namespace braid {
namespace {

// From the lowest to the highest.
constexpr std::array kNames = {"baseline", "avx2", "avx512", "avx512bf16", "amx"};

// Whether processor and system have tile registers and bfloat16 products on them. A hypervisor may
// hide either.
bool has_amx() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr unsigned kAmxBf16 = 1U << 22, kAmxTile = 1U << 24;  // leaf 7, edx
  constexpr unsigned kXgetbv = 1U << 27;                        // leaf 1, ecx
  constexpr unsigned kTileState = 3U << 17;                     // XCR0: configuration and data
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kXgetbv) == 0) {
    return false;
  }
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kAmxBf16) == 0 || (d & kAmxTile) == 0) {
    return false;
  }
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & kTileState) == kTileState;
#else
  return false;
#endif
}

// Linux gives a process the registers on demand, to all of its threads.
bool may_use_tiles() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

CpuIsa isa_of_machine() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    if (!__builtin_cpu_supports("avx512bf16")) {
      return CpuIsa::kAvx512;
    }
    return has_amx() ? CpuIsa::kAmx : CpuIsa::kAvx512Bf16;
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
          "'; expected baseline, avx2, avx512, avx512bf16 or amx");
  return std::min(best, static_cast<CpuIsa>(found - kNames.begin()));
}

CpuIsa cpu_isa() {
  static const CpuIsa isa = [] {
    const auto best = limited_isa(isa_of_machine(), std::getenv("BRAID_CPU_ISA"));
    return best == CpuIsa::kAmx && !may_use_tiles() ? CpuIsa::kAvx512Bf16 : best;
  }();
  return isa;
}

bool has_bf16_products() {
#if defined(__x86_64__)
  static const bool pays = !__builtin_cpu_is("intel");
  return cpu_isa() == CpuIsa::kAmx || (pays && cpu_isa() == CpuIsa::kAvx512Bf16);
#else
  return false;
#endif
}

}  // namespace braid
