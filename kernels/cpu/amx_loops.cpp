// Compiled once, for processors with AMX (CpuIsa::kAmx).
#define BRAID_CPU_ISA amx
#define BRAID_VECTOR_BYTES 64
#include "kernels/cpu/amx_tile.h"

namespace braid::amx {
namespace {

/// Palette 1, as LDTILECFG reads it.
struct TileConfiguration {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfiguration) == 64);

// Instructions spelled out: the intrinsics take numbers of registers as text, and do not tell the
// compiler that they read memory.
struct Tiles {
  static void configure(const TileShape& shape) {
    alignas(64) TileConfiguration configuration;
    for (int i = 0; i < 8; ++i) {
      configuration.row_bytes[i] = shape.row_bytes(i);
      configuration.rows[i] = shape.rows(i);
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(configuration) : "memory");
  }
  static void release() { __asm__ volatile("tilerelease"); }

  template <int kRegister>
  static void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(kRegister));
  }
  template <int kRegister>
  static void load(const void* from, int64_t row_bytes) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(row_bytes), "i"(kRegister)
                     : "memory");
  }
  template <int kRegister>
  static void store(void* to, int64_t row_bytes) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(row_bytes), "i"(kRegister)
                     : "memory");
  }
  template <int kSum, int kA, int kB>
  static void multiply_add() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kA), "i"(kB));
  }
};

}  // namespace

GemmKernels gemm_of_bf16() {
  return kernels_on_tiles<Tiles>();
}

GemmKernels gemm_of_split_floats() {
  return split_kernels_on_tiles<Tiles>();
}

}  // namespace braid::amx
