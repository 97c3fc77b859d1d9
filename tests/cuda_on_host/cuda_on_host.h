#pragma once
// CUDA's execution model on one thread of the CPU: what kernels/cuda/device.h includes in place of
// <cuda_runtime.h> where kernels run in tests. No GPU, no LibTorch.
//
// The threads of a block are fibers that run until a barrier; what a warp does together (a shuffle)
// is a barrier of its 32 fibers and an exchange. Blocks run one after another. A launch throws
// braid::Error where threads wait at barriers that others never reach, or leave a warp that still
// exchanges values. Shared memory starts as NaN (all bits set), so that what is read before it is
// written shows. A copy in the background (cp.async) is made when its thread waits for it, and its
// place holds NaN from its beginning: what is read too early, or overwritten too early, shows as
// well, and a copy that is never waited for is an error. ldmatrix and mma.sync are made by the last
// lane that arrives, as the layouts of fragments.h say. A product of wgmma is made when its warp
// issues it or, in other orders, as late as a wait allows; until then its sums hold NaN. Of shared
// memory it sees what the threads of the block have published, all of them, and NaN where other
// values lie there at the moment. In another order of threads, warps and blocks (set_order) a
// kernel must give the same bits: a barrier that is missing, or blocks that depend on each other,
// show by that.
//
// It cannot show: speed; work that runs at the same moment; memory that is written by one thread
// and not yet seen by another; the last bits of the GPU's own functions (rsqrtf, __expf).
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <memory>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct alignas(8) float2 {
  float x, y;
};

namespace on_host {

/// Runs `thread` for each thread of each block, which has so many bytes of dynamic shared memory.
void launch(dim3 grid,
            int threads,
            const std::function<void()>& thread,
            std::size_t shared_bytes = 0);

/// The order in which threads, warps and blocks run from the next launch on: 0 is ascending, 1
/// descending, every other number a shuffled one. Of all threads of the process.
void set_order(uint64_t order);

/// The chip that is played, 9 (Hopper) at first: 8 has no wgmma. Of all threads of the process.
void set_compute_capability(int major);
int compute_capability();

/// Called around every launch with true and false: where kernels' memory has to be made accessible.
void set_memory_guard(void (*guard)(bool running));

/// Launches so far.
int64_t launches();

/// Matrices that ldmatrix read so far, and the steps that it took: one for each matrix whose rows
/// lie in different banks of shared memory.
struct MatrixReads {
  int64_t matrices = 0, steps = 0;
};
MatrixReads matrix_reads();

// ---- What kernels use ----

struct Place {
  dim3 grid, block, block_index, thread_index;
};
/// Of the fiber that runs.
const Place& place();
int lane();

void sync_threads();
void sync_warp(uint32_t lanes);

/// Hands `mine` (at most 16 bytes) over to the other lanes; what lane `from` gave.
void exchange(uint32_t lanes, const void* mine, std::size_t bytes, int from, void* received);

template <class Value>
Value exchanged(uint32_t lanes, Value mine, int from) {
  static_assert(sizeof(Value) <= 16);
  Value received;
  exchange(lanes, &mine, sizeof mine, from, &received);
  return received;
}

/// The dynamic shared memory of the block that runs, at a multiple of 1024.
unsigned char* dynamic_shared();

/// cp.async of 16 bytes, zeros unless `valid`; its groups.
void copy_async(void* shared, const void* global, bool valid);
void commit_copies();
void wait_for_copies(int pending);

/// ldmatrix.x4: a row of 16 bytes of each lane -> four registers.
void load_matrices(uint32_t (&to)[4], const void* row, bool transposed);
/// mma.sync.m16n8k16, bfloat16, d += a b.
void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

// wgmma of a warpgroup (kernels/cuda/warpgroup.h).
uint64_t shared_address(const void* shared);
void publish_shared();
void fence_registers(std::initializer_list<const void*> arrays);
void commit_products();
void wait_for_products(int pending);
struct SharedOperand {
  uint64_t descriptor;
  bool by_panels;

  bool operator==(const SharedOperand&) const = default;
};
/// d [64, 2 sums] (+)= a [64, 16] b [16, 2 sums]; a_registers is null where a lies in memory.
void warpgroup_multiply(
    float* d, int sums, const uint32_t* a_registers, SharedOperand a, SharedOperand b, bool adds);

/// Number of the block that runs, never used again.
uint64_t block_number();

/// A variable in shared memory, filled with set bits for each block.
template <class Value>
class Shared {
 public:
  Value& of_block() {
    if (block_ != block_number()) {
      block_ = block_number();
      std::memset(memory_.get(), 0xff, sizeof(Value));
    }
    return *reinterpret_cast<Value*>(memory_.get());
  }

 private:
  // By itself in memory, so that sanitizers see its ends.
  std::unique_ptr<std::byte[]> memory_{new std::byte[sizeof(Value)]};
  uint64_t block_ = 0;
};

/// The upper half of x, rounded to nearest even.
inline uint16_t rounded_to_bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<uint16_t>(bits >> 16 | 0x40u);  // stays NaN
  }
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace on_host

#define threadIdx (::on_host::place().thread_index)
#define blockIdx (::on_host::place().block_index)
#define blockDim (::on_host::place().block)
#define gridDim (::on_host::place().grid)
#define __syncthreads() ::on_host::sync_threads()
#define __syncwarp() ::on_host::sync_warp(0xffffffffu)

template <class Value>
Value __shfl_sync(uint32_t lanes, Value value, int from) {
  return on_host::exchanged(lanes, value, from);
}
template <class Value>
Value __shfl_xor_sync(uint32_t lanes, Value value, int mask) {
  return on_host::exchanged(lanes, value, on_host::lane() ^ mask);
}

inline float __uint_as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline uint32_t __float_as_uint(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
/// The byte of eight, of x and then of y, that each nibble of `places` names.
inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t places) {
  const uint64_t bytes = static_cast<uint64_t>(y) << 32 | x;
  uint32_t chosen = 0;
  for (int i = 0; i < 4; ++i) {
    chosen |= static_cast<uint32_t>(bytes >> (places >> 4 * i & 7) * 8 & 0xff) << 8 * i;
  }
  return chosen;
}
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}
