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

/// A variable that the threads of a block share: BRAID_SHARED(float[8], sums);
#ifdef BRAID_CUDA_ON_HOST
#define BRAID_SHARED(type, name)                                \
  static thread_local ::on_host::Shared<type> shared_of_##name; \
  auto& name = shared_of_##name.of_block()
#else
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

/// The sum over the lanes of a warp, in all of them.
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    x += __shfl_xor_sync(kAllLanes, x, step);
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

/// Blocks of `size` that cover `count`.
inline unsigned blocks_of(int64_t count, int64_t size) {
  return static_cast<unsigned>((count + size - 1) / size);
}

}  // namespace braid::cuda
