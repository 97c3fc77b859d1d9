#pragma once
// What kernels are written in: CUDA C++ and the functions below. nvcc compiles them for a GPU; with
// BRAID_CUDA_ON_HOST any C++ compiler makes of the same sources functions that the CPU runs, a
// thread of a block at a time (tests/cuda_on_host). Nothing of LibTorch.
#include <cstdint>

#ifdef BRAID_CUDA_ON_HOST
#include <cuda_on_host.h>
#else
#include <cuda_runtime.h>
#endif

#include "core/error.h"
#include "kernels/bfloat16.h"

namespace braid::cuda {

// ---- Launches and shared memory ----

/// Queues a kernel; blocks of `threads` threads, a multiple of 32. No block, no launch.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...),
            dim3 grid,
            int threads,
            void* stream,
            const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
    return;
  }
#ifdef BRAID_CUDA_ON_HOST
  static_cast<void>(stream);
  on_host::launch(grid, threads, [&] { kernel(arguments...); });
#else
  kernel<<<grid, threads, 0, static_cast<cudaStream_t>(stream)>>>(arguments...);
  const auto error = cudaGetLastError();
  require(
      error == cudaSuccess, "[cuda] a kernel could not be launched: ", cudaGetErrorString(error));
#endif
}

/// The same with dynamic shared memory for each block: BRAID_DYNAMIC_SHARED(memory).
template <class... Parameters, class... Arguments>
void launch_with_shared(void (*kernel)(Parameters...),
                        dim3 grid,
                        int threads,
                        int shared_bytes,
                        void* stream,
                        const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
    return;
  }
#ifdef BRAID_CUDA_ON_HOST
  static_cast<void>(stream);
  on_host::launch(
      grid, threads, [&] { kernel(arguments...); }, static_cast<std::size_t>(shared_bytes));
#else
  auto error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error == cudaSuccess) {
    kernel<<<grid, threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(arguments...);
    error = cudaGetLastError();
  }
  require(error == cudaSuccess,
          "[cuda] a kernel with ",
          shared_bytes,
          " bytes of shared memory could not be launched: ",
          cudaGetErrorString(error));
#endif
}

/// Bytes of shared memory that a block of the current device may have.
inline int most_shared_bytes() {
#ifdef BRAID_CUDA_ON_HOST
  return 227 << 10;
#else
  int device = 0, bytes = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return bytes;
#endif
}

/// A variable that the threads of a block share: BRAID_SHARED(float[8], sums);
#ifdef BRAID_CUDA_ON_HOST
#define BRAID_SHARED(type, name)                                \
  static thread_local ::on_host::Shared<type> shared_of_##name; \
  auto& name = shared_of_##name.of_block()
#define BRAID_DYNAMIC_SHARED(name) unsigned char* name = ::on_host::dynamic_shared()
#else
#define BRAID_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#define BRAID_SHARED(type, name) __shared__ std::type_identity_t<type> name
#endif

// ---- bfloat16 ----

__device__ inline float widened(float x) {
  return x;
}
__device__ inline float widened(Bfloat16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}

/// x in type E, rounded to nearest even.
template <class E>
__device__ inline E narrowed(float x);
template <>
__device__ inline float narrowed<float>(float x) {
  return x;
}
template <>
__device__ inline Bfloat16 narrowed<Bfloat16>(float x) {
#ifdef BRAID_CUDA_ON_HOST
  return {on_host::rounded_to_bfloat16(x)};
#else
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return {bits};
#endif
}

// ---- Pieces of a row: eight elements ----

constexpr int kPiece = 8;

template <class E>
struct alignas(16) Piece {
  E at[kPiece];
};

/// Elements begin .. begin + 8 of a row of `size` elements, and 0 from its end on. kWhole: rows and
/// sizes are multiples of pieces (see are_whole()), so that 16 bytes are read at once.
template <bool kWhole, class E>
__device__ inline void load(const E* row, int64_t begin, int64_t size, float (&to)[kPiece]) {
  if constexpr (kWhole) {
    Piece<E> piece{};
    if (begin < size) {
      piece = *reinterpret_cast<const Piece<E>*>(row + begin);
    }
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      to[i] = widened(piece.at[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      to[i] = begin + i < size ? widened(row[begin + i]) : 0.0f;
    }
  }
}

/// The opposite; what would lie beyond the row's end is not written.
template <bool kWhole, class E>
__device__ inline void store(const float (&from)[kPiece], E* row, int64_t begin, int64_t size) {
  if constexpr (kWhole) {
    if (begin < size) {
      Piece<E> piece;
#pragma unroll
      for (int i = 0; i < kPiece; ++i) {
        piece.at[i] = narrowed<E>(from[i]);
      }
      *reinterpret_cast<Piece<E>*>(row + begin) = piece;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      if (begin + i < size) {
        row[begin + i] = narrowed<E>(from[i]);
      }
    }
  }
}

/// Whether rows of this size at these addresses consist of aligned pieces. Null pointers do.
template <class... Pointers>
bool are_whole(int64_t size, const Pointers*... rows) {
  return size % kPiece == 0 && ((reinterpret_cast<uintptr_t>(rows) % 16 == 0) && ...);
}

/// For kernels that know no others.
template <class... Pointers>
void require_whole(int64_t size, const Pointers*... rows) {
  require(are_whole(size, rows...),
          "[cuda] rows of ",
          size,
          " elements must be multiples of ",
          kPiece,
          " and begin at multiples of 16 bytes");
}

// ---- Threads ----

constexpr int kWarp = 32;
constexpr uint32_t kAllLanes = 0xffffffffu;

__device__ inline int thread_index() {
  return static_cast<int>(threadIdx.x);
}

__device__ inline int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}
__device__ inline float larger(float a, float b) {
  return a > b ? a : b;
}

/// The sum over the lanes of a warp, in all of them.
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x += __shfl_xor_sync(kAllLanes, x, step);
  }
  return x;
}

/// The largest of the numbers of a warp's lanes, in all of them.
__device__ inline float warp_largest(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x = larger(x, __shfl_xor_sync(kAllLanes, x, step));
  }
  return x;
}

/// A step of the next function: the halves of 2 kHalf numbers go to lanes of their own.
template <int kHalf>
__device__ inline void halve_numbers(float (&x)[kWarp]) {
  const bool upper = (thread_index() & kHalf) != 0;
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const float kept = upper ? x[i + kHalf] : x[i], given = upper ? x[i] : x[i + kHalf];
    x[i] = kept + __shfl_xor_sync(kAllLanes, given, kHalf);
  }
}

/// The sums over the lanes of a warp of 32 numbers: lane i returns that of the i-th. It takes 31
/// exchanges instead of 32 times five.
__device__ inline float warp_sum_of_each(float (&x)[kWarp]) {
  halve_numbers<16>(x);
  halve_numbers<8>(x);
  halve_numbers<4>(x);
  halve_numbers<2>(x);
  halve_numbers<1>(x);
  return x[0];
}

/// The sums over a block of kThreads threads of each of kCount numbers, at most 32, in all threads.
/// All threads call it.
template <int kThreads, int kCount>
__device__ inline void block_sums(float (&x)[kCount]) {
  static_assert(kCount <= kWarp);
  constexpr int kWarps = kThreads / kWarp;
  BRAID_SHARED(float[kWarps][kCount], sums);
  const int warp = thread_index() / kWarp, lane = thread_index() % kWarp;
  float each = 0;
  if constexpr (kCount <= 6) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float sum = warp_sum(x[i]);
      each = lane == i ? sum : each;
    }
  } else {
    float padded[kWarp] = {};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      padded[i] = x[i];
    }
    each = warp_sum_of_each(padded);
  }
  __syncthreads();  // all have read the sums of an earlier call
  if (lane < kCount) {
    sums[warp][lane] = each;
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    x[i] = 0;
    for (int w = 0; w < kWarps; ++w) {
      x[i] += sums[w][i];
    }
  }
}

template <int kThreads>
__device__ inline float block_sum(float x) {
  float one[1] = {x};
  block_sums<kThreads>(one);
  return one[0];
}

/// The largest of the numbers of a block's kThreads threads, in all of them. All threads call it.
template <int kThreads>
__device__ inline float block_largest(float x) {
  BRAID_SHARED(float[kThreads / kWarp], largest);
  x = warp_largest(x);
  __syncthreads();  // all have read the numbers of an earlier call
  if (thread_index() % kWarp == 0) {
    largest[thread_index() / kWarp] = x;
  }
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) {
    x = larger(x, largest[w]);
  }
  return x;
}

// ---- Copies in the background, and products of 16 x 16 and 16 x 8 matrices by a warp ----

/// 16 bytes from global to shared memory, or zeros; done when wait_for_copies() says so, and then
/// for this thread alone: a barrier must follow.
__device__ inline void copy_async(void* shared, const void* global, bool valid) {
#ifdef BRAID_CUDA_ON_HOST
  on_host::copy_async(shared, global, valid);
#else
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(valid ? 16 : 0)
      : "memory");
#endif
}
/// Makes one group of this thread's copies since the last call.
__device__ inline void commit_copies() {
#ifdef BRAID_CUDA_ON_HOST
  on_host::commit_copies();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// Until at most kPending of this thread's groups are under way.
template <int kPending>
__device__ inline void wait_for_copies() {
#ifdef BRAID_CUDA_ON_HOST
  on_host::wait_for_copies(kPending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
#endif
}

/// Four 8 x 8 matrices of bfloat16 in shared memory: lane l gives the address of row l % 8 of
/// matrix l / 8. Lane l gets elements 2 (l % 4) and + 1 of row l / 4 of each, or of column l / 4
/// where kTransposed.
template <bool kTransposed>
__device__ inline void load_matrices(uint32_t (&to)[4], const void* row) {
#ifdef BRAID_CUDA_ON_HOST
  on_host::load_matrices(to, row, kTransposed);
#else
  const auto from = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
  }
#endif
}

/// d [16, 8] += a [16, 16] b [16, 8] of bfloat16, sums in float32. Lane l has: of d, rows l / 4 and
/// + 8, columns 2 (l % 4) and + 1; of a, these rows, columns 2 (l % 4) and + 1 and 8 further; of b,
/// column l / 4, these rows of it.
__device__ inline void multiply_add(float (&d)[4],
                                    const uint32_t (&a)[4],
                                    uint32_t b_upper,
                                    uint32_t b_lower) {
#ifdef BRAID_CUDA_ON_HOST
  on_host::multiply_add(d, a, {b_upper, b_lower});
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_upper), "r"(b_lower));
#endif
}

/// a and b rounded, a in the lower half.
__device__ inline uint32_t narrowed_pair(float a, float b) {
#ifdef BRAID_CUDA_ON_HOST
  return on_host::rounded_to_bfloat16(a) | static_cast<uint32_t>(on_host::rounded_to_bfloat16(b))
                                               << 16;
#else
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(b), "f"(a));
  return pair;
#endif
}

/// The products of two pairs of bfloat16, rounded.
__device__ inline uint32_t multiplied_pairs(uint32_t a, uint32_t b) {
#ifdef BRAID_CUDA_ON_HOST
  const auto product = [&](int shift) {
    return __uint_as_float(a >> shift << 16) * __uint_as_float(b >> shift << 16);
  };
  return narrowed_pair(product(0), product(16));
#else
  uint32_t pair;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(pair) : "r"(a), "r"(b), "r"(0x80008000u));  // + -0
  return pair;
#endif
}

/// Blocks of `size` that cover `count`.
inline unsigned blocks_of(int64_t count, int64_t size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

}  // namespace braid::cuda
