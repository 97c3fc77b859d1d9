#pragma once
// One binary for every x86-64 CPU, in three layers: op.cpp (checks, device, autograd), op_cpu.cpp
// (threads, tiles), cpu/op_loops.{h,cpp} (loops over raw pointers). CMake compiles a *_loops.cpp
// once per instruction set, in the namespace BRAID_CPU_ISA; BRAID_CPU calls this machine's best.
// Such a file includes only lanes.h, loops.h, gemm_tile.h and <cmath>-like headers: an inline
// function that was compiled for AVX-512 must never be the copy that the linker keeps.

/// Declares a function in the namespace of every instruction set.
#define BRAID_DECLARE_CPU(...) \
  namespace baseline {         \
  __VA_ARGS__;                 \
  }                            \
  namespace avx2 {             \
  __VA_ARGS__;                 \
  }                            \
  namespace avx512 {           \
  __VA_ARGS__;                 \
  }                            \
  namespace avx512bf16 {       \
  __VA_ARGS__;                 \
  }

/// Calls the best variant: BRAID_CPU(sinkhorn_forward<float>)(logits, ...).
#define BRAID_CPU(...)                                                          \
  (::braid::cpu_isa() >= ::braid::CpuIsa::kAvx512Bf16 ? avx512bf16::__VA_ARGS__ \
   : ::braid::cpu_isa() == ::braid::CpuIsa::kAvx512   ? avx512::__VA_ARGS__     \
   : ::braid::cpu_isa() == ::braid::CpuIsa::kAvx2     ? avx2::__VA_ARGS__       \
                                                      : baseline::__VA_ARGS__)

namespace braid {

/// kAmx has the loops of kAvx512Bf16, and bfloat16 products on tile registers (amx_tile.h).
enum class CpuIsa { kBaseline, kAvx2, kAvx512, kAvx512Bf16, kAmx };

/// The best instruction set of this machine that the kernels were compiled for; at most that of the
/// environment variable BRAID_CPU_ISA, for tests and for those who look for the cause of a
/// difference between two machines. Throws Error where the variable has another word. The first
/// call asks the system for tile registers, where those are the best.
CpuIsa cpu_isa();

/// "baseline", "avx2", "avx512", "avx512bf16" or "amx".
const char* isa_name(CpuIsa isa);

/// The lower one of `best` and the one that `limit` names; `best` where limit is nullptr. Throws
/// Error for other words.
CpuIsa limited_isa(CpuIsa best, const char* limit);

/// Whether bfloat16 products are multiplied in pairs, summed in float32: on tile registers (AMX),
/// or by AVX-512 BF16. The latter not on Intel's processors: the instruction runs at a quarter of
/// the rate of float32's multiply-add there, so that widening each factor is twice as fast.
bool has_bf16_products();

}  // namespace braid
