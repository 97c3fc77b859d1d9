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
#include "kernels/cuda/device.h"

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
/// a [64, 16] whose rows, or b [16, n] whose columns, are rows in memory. `shared` is where the
/// first one's element 16 k would be without the swizzle: 32 k bytes behind a multiple of 1024.
__device__ inline uint64_t by_rows(const void* shared) {
  return matrix_descriptor(shared, 1);
}
/// b [16, n] whose rows are rows in memory, 64 columns of them in a panel; panels are so many bytes
/// apart. `shared` is a multiple of 1024.
__device__ inline uint64_t by_panels(const void* shared, int panel_bytes) {
  return matrix_descriptor(shared, panel_bytes / 16);
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
#define BRAID_NAMES_64                                                               \
  BRAID_NAMES_16                                                                     \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31" \
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
#define BRAID_SUMS_64(d, i) \
  BRAID_SUMS_16(d, i), BRAID_SUMS_16(d, i + 16), BRAID_SUMS_16(d, i + 32), BRAID_SUMS_16(d, i + 48)
#define BRAID_SUMS_128(d, i) BRAID_SUMS_64(d, i), BRAID_SUMS_64(d, i + 64)
// wgmma with kSums numbers of each thread; `n` is kSums * 2, a, b and p are the numbers of the
// operands that follow the sums, and `majors` says how operands in memory lie.
#define BRAID_WGMMA(n, sums, a, b, p, majors)                                         \
  "{.reg .pred adds; setp.ne.b32 adds, " p ", 0; wgmma.mma_async.sync.aligned.m64n" n \
  "k16.f32.bf16.bf16 {" sums "}, " a ", " b ", adds, 1, 1, " majors ";}"

/// d [64, 2 kSums] = a [64, 16] b [16, 2 kSums] of bfloat16, or d += a b; a is by_rows(). Thread t
/// of the warpgroup has, of rows t / 32 * 16 + t % 32 / 4 and + 8, columns 2 (t % 4) and + 1 of
/// each eight: sum 4 j + 2 r + c is that of row r and column c of the j-th eight.
template <bool kPanels, int kSums>
__device__ inline void warpgroup_multiply(float (&d)[kSums], uint64_t a, uint64_t b, bool adds) {
#ifdef BRAID_CUDA_ON_HOST
  on_host::warpgroup_multiply(d, kSums, nullptr, a, b, kPanels, adds);
#elif defined(BRAID_HAS_WARPGROUP_PRODUCTS)
  const int also = adds ? 1 : 0;
  if constexpr (kSums == 16 && !kPanels) {
    asm volatile(BRAID_WGMMA("32", BRAID_NAMES_16, "%16", "%17", "%18", "0, 0")
                 : BRAID_SUMS_16(d, 0)
                 : "l"(a), "l"(b), "r"(also));
  } else {
    static_assert(kSums == 128 && kPanels, "not written");
    asm volatile(BRAID_WGMMA("256", BRAID_NAMES_128, "%128", "%129", "%130", "0, 1")
                 : BRAID_SUMS_128(d, 0)
                 : "l"(a), "l"(b), "r"(also));
  }
#endif
}
/// d += a b with a in registers, as multiply_add() has it of each warp's 16 rows; b is by_rows().
template <int kSums>
__device__ inline void warpgroup_multiply(float (&d)[kSums], const uint32_t (&a)[4], uint64_t b) {
#ifdef BRAID_CUDA_ON_HOST
  on_host::warpgroup_multiply(d, kSums, a, 0, b, /*b_by_panels=*/false, /*adds=*/true);
#elif defined(BRAID_HAS_WARPGROUP_PRODUCTS)
  static_assert(kSums == 64, "not written");
  asm volatile(BRAID_WGMMA("128", BRAID_NAMES_64, "{%64, %65, %66, %67}", "%68", "%69", "0")
               : BRAID_SUMS_64(d, 0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
#endif
}

}  // namespace braid::cuda
