#pragma once
// Products of a warpgroup, four warps whose first one's number is a multiple of four, by wgmma: of
// 64 rows, in the background, with operands in shared memory. Hopper alone has them, and only code
// for sm_90a (PTX ISA, "Asynchronous warpgroup level matrix instructions"); in other code these
// functions are empty, and nobody launches kernels that call them.
//
// The order of things: what threads wrote to shared memory, or copied there and waited for, they
// publish_shared(), then comes a barrier; fence_registers() stands behind each wait before the next
// product, and before each product with a in registers; commit_products() makes a group of the
// products since the last call, and until wait_for_products() says that it is done, its operands
// are being read and nobody touches its sums.
#include "kernels/cuda/matrix_tiles.h"

#if defined(BRAID_CUDA_ON_HOST) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define BRAID_HAS_WARPGROUP_PRODUCTS
#endif

namespace braid::cuda {

/// Whether this code has them; kernels for others are empty.
#ifdef BRAID_HAS_WARPGROUP_PRODUCTS
constexpr bool kHasWarpgroupProducts = true;
#else
constexpr bool kHasWarpgroupProducts = false;
#endif

constexpr int kWarpgroup = 4 * kWarp;

/// Whether the current device has them.
inline bool has_warpgroup_products() {
#ifdef BRAID_CUDA_ON_HOST
  return on_host::compute_capability() == 9;
#else
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  return major == 9;
#endif
}

// ---- Operands in shared memory: rows of 64 bfloat16, swizzled as those of TileRows<64> ----

/// An operand, a [64, 16] or b [16, n], and whether its 16 terms of a sum are neighbors in a row of
/// memory (by rows, "K-major") or rows of memory (by panels, "MN-major": a lies transposed).
template <bool kByPanels>
struct SharedOperand {
  uint64_t descriptor;
};

/// The address, and the number of 16 bytes from eight such rows to the next eight; `leading` is
/// another such number.
__device__ inline uint64_t matrix_descriptor(const void* shared, int leading) {
#ifdef BRAID_CUDA_ON_HOST
  const uint64_t address = on_host::shared_address(shared);
#else
  const auto address = static_cast<uint64_t>(__cvta_generic_to_shared(shared));
#endif
  constexpr uint64_t kEightRows = 1024 / 16, kSwizzleOf128Bytes = 1;
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>(leading) << 16 | kEightRows << 32 |
         kSwizzleOf128Bytes << 62;
}
/// The terms are columns [16 k, + 16) of memory. Its rows from `row` on, a multiple of eight, are
/// a's rows or b's columns.
template <int kWidth, int kRows>
__device__ inline SharedOperand<false> by_rows(const PanelRows<kWidth, kRows>& rows,
                                               int row,
                                               int k) {
  const unsigned char* shared =
      rows.panel(k / 4).memory + row * TileRows<64>::kRowBytes + k % 4 * 32;
  return {matrix_descriptor(shared, 1)};
}
/// The terms are rows [16 k, + 16) of memory. Its columns from a panel's first on are a's rows or
/// b's columns.
template <int kWidth, int kRows>
__device__ inline SharedOperand<true> by_panels(const PanelRows<kWidth, kRows>& rows,
                                                int panel,
                                                int k) {
  const unsigned char* shared = rows.panel(panel).memory + k * 16 * TileRows<64>::kRowBytes;
  return {matrix_descriptor(shared, PanelRows<kWidth, kRows>::kPanelBytes / 16)};
}

/// What this thread has written to shared memory, or copied and waited for, will be there for
/// products that come behind a barrier.
__device__ inline void publish_shared() {
#ifdef BRAID_CUDA_ON_HOST
  on_host::publish_shared();
#elif defined(BRAID_HAS_WARPGROUP_PRODUCTS)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// ---- Products ----

// What the compiler must not move to the other side of this place, since it does not know that a
// product in the background has these registers.
template <int kCount>
__device__ inline void pin([[maybe_unused]] float (&registers)[kCount]) {
#ifndef BRAID_CUDA_ON_HOST
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(registers[i])::"memory");
  }
#endif
}
template <int kCount>
__device__ inline void pin([[maybe_unused]] uint32_t (&registers)[kCount]) {
#ifndef BRAID_CUDA_ON_HOST
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+r"(registers[i])::"memory");
  }
#endif
}

/// Arrays of sums, or a's registers: what was written to them is there for the products that
/// follow.
template <class... Registers>
__device__ inline void fence_registers(Registers&... registers) {
  (pin(registers), ...);
#ifdef BRAID_CUDA_ON_HOST
  on_host::fence_registers({&registers[0]...});
#elif defined(BRAID_HAS_WARPGROUP_PRODUCTS)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ inline void commit_products() {
#ifdef BRAID_CUDA_ON_HOST
  on_host::commit_products();
#elif defined(BRAID_HAS_WARPGROUP_PRODUCTS)
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
/// Until at most kPending groups are under way; with the arrays of sums that are read behind it.
template <int kPending, class... Sums>
__device__ inline void wait_for_products(Sums&... sums) {
#ifdef BRAID_CUDA_ON_HOST
  on_host::wait_for_products(kPending);
#elif defined(BRAID_HAS_WARPGROUP_PRODUCTS)
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#endif
  (pin(sums), ...);
}

// Names of n registers in assembly, and the registers themselves.
#define BRAID_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define BRAID_NAMES_32 \
  BRAID_NAMES_16       \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define BRAID_NAMES_64                                                               \
  BRAID_NAMES_32                                                                     \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define BRAID_NAMES_128                                                                          \
  BRAID_NAMES_64                                                                                 \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"             \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"             \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, " \
  "%127"
#define BRAID_SUMS_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define BRAID_SUMS_16(d, i) \
  BRAID_SUMS_4(d, i), BRAID_SUMS_4(d, i + 4), BRAID_SUMS_4(d, i + 8), BRAID_SUMS_4(d, i + 12)
#define BRAID_SUMS_32(d, i) BRAID_SUMS_16(d, i), BRAID_SUMS_16(d, i + 16)
#define BRAID_SUMS_64(d, i) BRAID_SUMS_32(d, i), BRAID_SUMS_32(d, i + 32)
#define BRAID_SUMS_128(d, i) BRAID_SUMS_64(d, i), BRAID_SUMS_64(d, i + 64)
// wgmma of n = 2 sums columns; a, b and adds name the operands that follow the sums, and `panels`
// those that say which of a (unless it is in registers) and b are by panels.
#define BRAID_WGMMA(sums, n, a, b, adds, panels)                                         \
  "{.reg .pred adds; setp.ne.b32 adds, " adds ", 0; wgmma.mma_async.sync.aligned.m64n" n \
  "k16.f32.bf16.bf16 {" BRAID_NAMES_##sums "}, " a ", " b ", adds, 1, 1, " panels ";}"

/// d [64, 2 kSums] = a [64, 16] b [16, 2 kSums] of bfloat16, or d += a b; kSums is 16, 32, 64 or
/// 128. Thread t of the warpgroup has, of rows t / 32 * 16 + t % 32 / 4 and + 8, columns 2 (t % 4)
/// and + 1 of each eight: sum 4 j + 2 r + c is that of row r and column c of the j-th eight.
template <int kSums, bool kAPanels, bool kBPanels>
__device__ inline void warpgroup_multiply(float (&d)[kSums],
                                          SharedOperand<kAPanels> a,
                                          SharedOperand<kBPanels> b,
                                          bool adds) {
  static_assert(kSums == 16 || kSums == 32 || kSums == 64 || kSums == 128, "not written");
#ifdef BRAID_CUDA_ON_HOST
  on_host::warpgroup_multiply(
      d, kSums, nullptr, {a.descriptor, kAPanels}, {b.descriptor, kBPanels}, adds);
#elif defined(BRAID_HAS_WARPGROUP_PRODUCTS)
#define BRAID_MULTIPLY(sums, ...)                 \
  asm volatile(BRAID_WGMMA(sums, __VA_ARGS__)     \
               : BRAID_SUMS_##sums(d, 0)          \
               : "l"(a.descriptor),               \
                 "l"(b.descriptor),               \
                 "r"(static_cast<int>(adds)),     \
                 "n"(static_cast<int>(kAPanels)), \
                 "n"(static_cast<int>(kBPanels)))
  if constexpr (kSums == 16) {
    BRAID_MULTIPLY(16, "32", "%16", "%17", "%18", "%19, %20");
  } else if constexpr (kSums == 32) {
    BRAID_MULTIPLY(32, "64", "%32", "%33", "%34", "%35, %36");
  } else if constexpr (kSums == 64) {
    BRAID_MULTIPLY(64, "128", "%64", "%65", "%66", "%67, %68");
  } else {
    BRAID_MULTIPLY(128, "256", "%128", "%129", "%130", "%131, %132");
  }
#undef BRAID_MULTIPLY
#endif
}
/// The same with a in registers, as multiply_add() has it of each warp's 16 rows.
template <int kSums, bool kBPanels>
__device__ inline void warpgroup_multiply(float (&d)[kSums],
                                          const uint32_t (&a)[4],
                                          SharedOperand<kBPanels> b,
                                          bool adds) {
  static_assert(kSums == 16 || kSums == 32 || kSums == 64 || kSums == 128, "not written");
#ifdef BRAID_CUDA_ON_HOST
  on_host::warpgroup_multiply(d, kSums, a, {}, {b.descriptor, kBPanels}, adds);
#elif defined(BRAID_HAS_WARPGROUP_PRODUCTS)
#define BRAID_MULTIPLY(sums, ...)             \
  asm volatile(BRAID_WGMMA(sums, __VA_ARGS__) \
               : BRAID_SUMS_##sums(d, 0)      \
               : "r"(a[0]),                   \
                 "r"(a[1]),                   \
                 "r"(a[2]),                   \
                 "r"(a[3]),                   \
                 "l"(b.descriptor),           \
                 "r"(static_cast<int>(adds)), \
                 "n"(static_cast<int>(kBPanels)))
  if constexpr (kSums == 16) {
    BRAID_MULTIPLY(16, "32", "{%16, %17, %18, %19}", "%20", "%21", "%22");
  } else if constexpr (kSums == 32) {
    BRAID_MULTIPLY(32, "64", "{%32, %33, %34, %35}", "%36", "%37", "%38");
  } else if constexpr (kSums == 64) {
    BRAID_MULTIPLY(64, "128", "{%64, %65, %66, %67}", "%68", "%69", "%70");
  } else {
    BRAID_MULTIPLY(128, "256", "{%128, %129, %130, %131}", "%132", "%133", "%134");
  }
#undef BRAID_MULTIPLY
#endif
}

}  // namespace braid::cuda
