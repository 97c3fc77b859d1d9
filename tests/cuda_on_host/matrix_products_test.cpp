// Copies in the background, ldmatrix and mma.sync, as kernels/cuda/device.h has them.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/matrix_tiles.h"
#include "tests/cuda_on_host/fragments.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 64;

template <class... Arguments>
std::string error_of(void (*kernel)(Arguments...),
                     const std::type_identity_t<Arguments>&... given) {
  try {
    launch_with_shared(kernel, 1, kThreads, 4096, nullptr, given...);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// What a kernel writes, in three orders of its threads.
std::vector<std::vector<float>> results(void (*kernel)(const float*, float*)) {
  std::vector<float> given(4 * kThreads);
  for (std::size_t i = 0; i < given.size(); ++i) {
    given[i] = static_cast<float>(i);
  }
  std::vector<std::vector<float>> all;
  for (const uint64_t order : {0, 1, 2}) {
    on_host::set_order(order);
    all.emplace_back(given.size());
    launch_with_shared(kernel, 1, kThreads, 4096, nullptr, given.data(), all.back().data());
  }
  on_host::set_order(0);
  return all;
}

bool all_are(const std::vector<std::vector<float>>& results, float (*expected)(int)) {
  for (const auto& result : results) {
    for (std::size_t i = 0; i < result.size(); ++i) {
      if (!(result[i] == expected(static_cast<int>(i)))) {
        return false;
      }
    }
  }
  return true;
}

// Copies four numbers of each thread to shared memory and, mirrored, out of it.
template <bool kWaits, bool kBarrier>
void copies(const float* from, float* to) {
  BRAID_DYNAMIC_SHARED(memory);
  auto* numbers = reinterpret_cast<float*>(memory);
  const int i = thread_index();
  copy_async(numbers + 4 * i, from + 4 * i, true);
  commit_copies();
  if (kWaits) {
    wait_for_copies<0>();
  }
  if (kBarrier) {
    __syncthreads();
  }
  for (int j = 0; j < 4; ++j) {
    to[4 * i + j] = numbers[4 * (kThreads - 1 - i) + j];
  }
  wait_for_copies<0>();
}
float mirrored(int i) {
  return static_cast<float>(4 * (kThreads - 1 - i / 4) + i % 4);
}

TEST(CudaOnHost, CopiesInTheBackgroundAreThereBehindTheWaitAndABarrier) {
  EXPECT_TRUE(all_are(results(copies<true, true>), mirrored));
}

TEST(CudaOnHost, ReadingACopyBeforeTheWaitOrTheBarrierShows) {
  EXPECT_FALSE(all_are(results(copies<false, true>), mirrored));
  EXPECT_FALSE(all_are(results(copies<true, false>), mirrored));
}

// Two groups; the second one overwrites the first one's place.
template <int kPending>
void two_groups(const float* from, float* to) {
  BRAID_DYNAMIC_SHARED(memory);
  auto* numbers = reinterpret_cast<float*>(memory);
  const int i = thread_index();
  copy_async(numbers + 4 * i, from + 4 * i, true);
  commit_copies();
  copy_async(numbers + 4 * (i + kThreads), from, false);
  commit_copies();
  wait_for_copies<kPending>();
  for (int j = 0; j < 4; ++j) {
    to[4 * i + j] = numbers[4 * i + j] + (kPending == 0 ? numbers[4 * (i + kThreads) + j] : 0);
  }
  wait_for_copies<0>();
}

TEST(CudaOnHost, WaitsForTheOldestGroupsOfCopiesAndFillsWithZeros) {
  const auto same = [](int i) { return static_cast<float>(i); };
  EXPECT_TRUE(all_are(results(two_groups<1>), same));
  EXPECT_TRUE(all_are(results(two_groups<0>), same));
  EXPECT_FALSE(all_are(results(two_groups<2>), same));
}

TEST(CudaOnHost, ACopyOverwritesItsPlaceFromItsBeginning) {
  EXPECT_FALSE(all_are(results([](const float* from, float* to) {
                         BRAID_DYNAMIC_SHARED(memory);
                         auto* number = reinterpret_cast<float*>(memory) + 4 * thread_index();
                         number[0] = 1;
                         copy_async(number, from, true);
                         to[4 * thread_index()] = number[0];
                         commit_copies();
                         wait_for_copies<0>();
                       }),
                       [](int i) { return i % 4 == 0 ? 1.0f : 0.0f; }));
}

TEST(CudaOnHost, CopiesThatNobodyWaitsForAreAnError) {
  const float from[4] = {};
  const auto message = error_of(
      +[](const float* given) {
        BRAID_DYNAMIC_SHARED(memory);
        copy_async(memory, given, thread_index() < 0);
      },
      from);
  EXPECT_NE(message.find("copies in the background that it did not wait for"), std::string::npos)
      << message;
}

TEST(CudaOnHost, CopiesOfPlacesThatAreNotAlignedAreAnError) {
  const float from[4] = {};
  EXPECT_NE(error_of(
                +[](const float* given) {
                  BRAID_DYNAMIC_SHARED(memory);
                  copy_async(memory + 8, given, false);
                },
                from),
            "");
}

TEST(CudaOnHost, RefusesMoreSharedMemoryThanABlockHas) {
  EXPECT_THROW(launch_with_shared(
                   +[] {}, 1, 32, 228 << 10, nullptr),
               Error);
}

// Row r, column c of three matrices, whose products are exact in bfloat16 and float32.
float value_of(int matrix, int r, int c) {
  return static_cast<float>((7 * matrix + 5 * r + 3 * c) % 11 - 5);
}

// PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type", word by word: what lane l
// holds in registers a0 to a7, b0 to b3 and c0 to c3.
struct Documented {
  int lane;
  int group() const { return lane >> 2; }
  int in_group() const { return lane % 4; }
  int a_row(int i) const { return (0 <= i && i < 2) || (4 <= i && i < 6) ? group() : group() + 8; }
  int a_column(int i) const { return in_group() * 2 + (i & 0x1) + (i >= 4 ? 8 : 0); }
  int b_row(int i) const { return in_group() * 2 + (i & 0x1) + (i >= 2 ? 8 : 0); }
  int b_column(int) const { return group(); }
  int c_row(int i) const { return i < 2 ? group() : group() + 8; }
  int c_column(int i) const { return in_group() * 2 + (i & 0x1); }
};

TEST(CudaOnHost, HasTheFragmentsThatAreDocumented) {
  for (int lane = 0; lane < 32; ++lane) {
    const Documented documented{lane};
    for (int i = 0; i < 8; ++i) {
      EXPECT_EQ(on_host::place_in_a(lane, i).row, documented.a_row(i));
      EXPECT_EQ(on_host::place_in_a(lane, i).column, documented.a_column(i));
    }
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(on_host::place_in_b(lane, i).row, documented.b_row(i));
      EXPECT_EQ(on_host::place_in_b(lane, i).column, documented.b_column(i));
      EXPECT_EQ(on_host::place_in_d(lane, i).row, documented.c_row(i));
      EXPECT_EQ(on_host::place_in_d(lane, i).column, documented.c_column(i));
    }
  }
}

// d += a b of fragments that are made by the documentation.
TEST(CudaOnHost, MultipliesDocumentedFragments) {
  std::vector<float> d(16 * 8);
  launch(
      +[](float* out) {
        const Documented documented{thread_index()};
        uint32_t a[4], b[2];
        for (int i = 0; i < 4; ++i) {
          a[i] =
              narrowed_pair(value_of(0, documented.a_row(2 * i), documented.a_column(2 * i)),
                            value_of(0, documented.a_row(2 * i), documented.a_column(2 * i + 1)));
        }
        for (int i = 0; i < 2; ++i) {
          b[i] =
              narrowed_pair(value_of(1, documented.b_row(2 * i), documented.b_column(2 * i)),
                            value_of(1, documented.b_row(2 * i + 1), documented.b_column(2 * i)));
        }
        float sum[4] = {100, 100, 100, 100};
        multiply_add(sum, a, b[0], b[1]);
        for (int i = 0; i < 4; ++i) {
          out[documented.c_row(i) * 8 + documented.c_column(i)] = sum[i];
        }
      },
      1,
      32,
      nullptr,
      d.data());
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 8; ++n) {
      float want = 100;
      for (int k = 0; k < 16; ++k) {
        want += value_of(0, m, k) * value_of(1, k, n);
      }
      EXPECT_EQ(d[static_cast<std::size_t>(m * 8 + n)], want) << m << " " << n;
    }
  }
}

// [16, 16] matrices in shared memory, by rows of TileRows; a_rows, b_rows: whether a matrix lies
// there as it is multiplied, or transposed.
template <bool kATransposed, bool kBTransposed>
void tile_product(float* out) {
  constexpr int kWidth = 128;
  BRAID_DYNAMIC_SHARED(memory);
  const TileRows<kWidth> a_tile{memory}, b_tile{memory + 16 * TileRows<kWidth>::kRowBytes};
  const auto put = [](const TileRows<kWidth>& tile, int row, int column, float value) {
    reinterpret_cast<Bfloat16*>(tile.piece(row, column / kPiece))[column % kPiece] =
        narrowed<Bfloat16>(value);
  };
  for (int i = thread_index(); i < 16 * 16; i += 32) {
    const int row = i / 16, column = i % 16;
    put(a_tile, row, column, kATransposed ? value_of(0, column, row) : value_of(0, row, column));
    put(b_tile, row, column, kBTransposed ? value_of(1, row, column) : value_of(1, column, row));
  }
  __syncwarp();
  uint32_t a[4], b[4];
  kATransposed ? load_a_transposed(a, a_tile, 0, 0) : load_a(a, a_tile, 0, 0);
  kBTransposed ? load_b_transposed(b, b_tile, 0, 0) : load_b(b, b_tile, 0, 0);
  float d[2][4] = {};
  multiply_add(d[0], a, b[0], b[1]);
  multiply_add(d[1], a, b[2], b[3]);
  for (int n = 0; n < 2; ++n) {
    for (int i = 0; i < 4; ++i) {
      const auto [row, column] = on_host::place_in_d(thread_index(), i);
      out[row * 16 + 8 * n + column] = d[n][i];
    }
  }
}

TEST(CudaOnHost, MultipliesTilesThatLieEitherWayWithoutBankConflicts) {
  for (auto* kernel : {tile_product<false, false>,
                       tile_product<false, true>,
                       tile_product<true, false>,
                       tile_product<true, true>}) {
    const auto before = on_host::matrix_reads();
    std::vector<float> d(16 * 16);
    launch_with_shared(kernel, 1, 32, 32 * TileRows<128>::kRowBytes, nullptr, d.data());
    for (int m = 0; m < 16; ++m) {
      for (int n = 0; n < 16; ++n) {
        float want = 0;
        for (int k = 0; k < 16; ++k) {
          want += value_of(0, m, k) * value_of(1, k, n);
        }
        EXPECT_EQ(d[static_cast<std::size_t>(m * 16 + n)], want) << m << " " << n;
      }
    }
    const auto after = on_host::matrix_reads();
    EXPECT_EQ(after.matrices - before.matrices, 8);
    EXPECT_EQ(after.steps - before.steps, 8);
  }
}

TEST(CudaOnHost, CountsTheConflictsOfRowsThatAreAPowerOfTwoApart) {
  const auto before = on_host::matrix_reads();
  EXPECT_EQ(error_of(+[] {
              BRAID_DYNAMIC_SHARED(memory);
              uint32_t to[4];
              load_matrices<false>(to, memory + thread_index() % 32 * 128);
            }),
            "");
  const auto after = on_host::matrix_reads();
  EXPECT_EQ(after.steps - before.steps, 8 * (after.matrices - before.matrices));
}

TEST(CudaOnHost, LanesThatDoDifferentThingsTogetherAreAnError) {
  const auto message = error_of(+[] {
    BRAID_DYNAMIC_SHARED(memory);
    uint32_t to[4];
    if (thread_index() % 2 == 0) {
      load_matrices<false>(to, memory);
    } else {
      load_matrices<true>(to, memory);
    }
  });
  EXPECT_NE(message.find("the lanes of a warp do different things"), std::string::npos) << message;
}

}  // namespace
}  // namespace braid::cuda
