// Products of warpgroups, as kernels/cuda/warpgroup.h has them: each test has a kernel that is
// right or wrong in one way.
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/cuda/matrix_tiles.h"
#include "kernels/cuda/warpgroup.h"
#include "tests/cuda_on_host/fragments.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 2 * kWarpgroup;  // of which each warpgroup does the same
constexpr int kRows = 64, kSteps = 64;    // of a, and the terms of a sum
constexpr int kShared = 64 << 10;

// Row r, column c of two matrices, whose products are exact in bfloat16 and float32.
float value_of(int matrix, int r, int c) {
  return static_cast<float>((7 * matrix + 5 * r + 3 * c) % 11 - 5);
}

// PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk16", word by word: what thread t of a
// warpgroup holds in registers a0 to a7, and d0 to dX.
struct Documented {
  int thread;
  int row() const { return thread / 32 * 16 + thread % 32 / 4; }
  int a_row(int i) const { return i < 2 || (4 <= i && i < 6) ? row() : row() + 8; }
  int a_column(int i) const { return (i < 4 ? 0 : 8) + thread % 4 * 2 + (i & 1); }
  int d_row(int i) const { return i % 4 < 2 ? row() : row() + 8; }
  int d_column(int i) const { return 8 * (i / 4) + thread % 4 * 2 + (i & 1); }
};

TEST(WarpgroupOnHost, HasTheFragmentsThatAreDocumented) {
  for (int thread = 0; thread < kWarpgroup; ++thread) {
    const Documented documented{thread};
    for (int i = 0; i < 8; ++i) {
      EXPECT_EQ(on_host::place_in_warpgroup_a(thread, i).row, documented.a_row(i));
      EXPECT_EQ(on_host::place_in_warpgroup_a(thread, i).column, documented.a_column(i));
    }
    for (int i = 0; i < 128; ++i) {
      EXPECT_EQ(on_host::place_in_sums(thread, i).row, documented.d_row(i));
      EXPECT_EQ(on_host::place_in_sums(thread, i).column, documented.d_column(i));
    }
  }
}

template <class Tile>
void put(const Tile& tile, int row, int column, float value) {
  reinterpret_cast<Bfloat16*>(tile.piece(row, column / kPiece))[column % kPiece] =
      narrowed<Bfloat16>(value);
}

void put_a(const TileRows<64>& tile) {
  for (int i = thread_index(); i < kRows * kSteps; i += kThreads) {
    put(tile, i / kSteps, i % kSteps, value_of(0, i / kSteps, i % kSteps));
  }
}

// Writes out [64, columns], from the first warpgroup.
template <int kSums>
void write(const float (&d)[kSums], float* out) {
  const Documented documented{thread_index()};
  for (int i = 0; i < kSums && thread_index() < kWarpgroup; ++i) {
    out[documented.d_row(i) * 2 * kSums + documented.d_column(i)] = d[i];
  }
}

enum class Mistake {
  kNone,
  kNotPublished,
  kNoBarrier,
  kNoFence,
  kNoWait,
  kNotWaitedFor,
  kOperandOverwritten,
  kSumsWritten,
  kRegistersWritten,
  kOneWarpMore
};

// [64, 32] of operands that are both rows in memory.
template <Mistake kMistake>
void product_by_rows(float* out) {
  BRAID_DYNAMIC_SHARED(memory);
  const TileRows<64> a{memory}, b{memory + kRows * TileRows<64>::kRowBytes};
  put_a(a);
  for (int i = thread_index(); i < 32 * kSteps; i += kThreads) {
    put(b, i / kSteps, i % kSteps, value_of(1, i % kSteps, i / kSteps));
  }
  if (kMistake != Mistake::kNotPublished) {
    publish_shared();
  }
  if (kMistake != Mistake::kNoBarrier) {
    __syncthreads();
  }
  float d[16] = {};
  if (kMistake != Mistake::kNoFence) {
    fence_registers(d);
  }
  for (int k = 0; k < kSteps / 16; ++k) {
    warpgroup_multiply<false>(d, by_rows(a.memory + 32 * k), by_rows(b.memory + 32 * k), k > 0);
  }
  if (kMistake == Mistake::kOneWarpMore && thread_index() < kWarp) {
    warpgroup_multiply<false>(d, by_rows(a.memory), by_rows(b.memory), true);
  }
  commit_products();
  if (kMistake == Mistake::kOperandOverwritten && thread_index() == 0) {
    put(a, 3, 5, 1000);
  }
  if (kMistake == Mistake::kSumsWritten && thread_index() == 7) {
    d[3] = 0;
  }
  if (kMistake == Mistake::kNoWait) {
    wait_for_products<1>();
    write(d, out);
  }
  if (kMistake != Mistake::kNotWaitedFor) {
    wait_for_products<0>();
  }
  if (kMistake != Mistake::kNoWait) {
    write(d, out);
  }
}

// [64, 256] of rows in memory that are b's.
void product_by_panels(float* out) {
  BRAID_DYNAMIC_SHARED(memory);
  using Panels = PanelRows<256, kSteps>;
  const TileRows<64> a{memory};
  const Panels b{memory + kRows * TileRows<64>::kRowBytes};
  put_a(a);
  for (int i = thread_index(); i < 256 * kSteps; i += kThreads) {
    put(b, i / 256, i % 256, value_of(1, i / 256, i % 256));
  }
  publish_shared();
  __syncthreads();
  float d[128] = {};
  fence_registers(d);
  for (int k = 0; k < kSteps / 16; ++k) {
    warpgroup_multiply<true>(
        d,
        by_rows(a.memory + 32 * k),
        by_panels(b.memory + 16 * k * TileRows<64>::kRowBytes, Panels::kPanelBytes),
        true);
  }
  commit_products();
  wait_for_products<0>();
  write(d, out);
}

// [64, 128] with a in registers, one step's while the step before is multiplied.
template <Mistake kMistake>
void product_of_registers(float* out) {
  BRAID_DYNAMIC_SHARED(memory);
  const TileRows<64> b{memory};
  for (int i = thread_index(); i < 128 * kSteps; i += kThreads) {
    put(b, i / kSteps, i % kSteps, value_of(1, i % kSteps, i / kSteps));
  }
  publish_shared();
  __syncthreads();
  const Documented documented{thread_index() % kWarpgroup};
  float d[64] = {};
  uint32_t a[2][4];
  for (int k = 0; k < kSteps / 16; ++k) {
    if (k >= 2 && kMistake != Mistake::kRegistersWritten) {
      wait_for_products<1>();
    }
    for (int i = 0; i < 4; ++i) {
      const int row = documented.a_row(2 * i), column = 16 * k + documented.a_column(2 * i);
      a[k % 2][i] = narrowed_pair(value_of(0, row, column), value_of(0, row, column + 1));
    }
    if (kMistake != Mistake::kNoFence || k == 0) {
      fence_registers(d, a[k % 2]);
    } else {
      fence_registers(d);
    }
    warpgroup_multiply(d, a[k % 2], by_rows(b.memory + 32 * k));
    commit_products();
  }
  wait_for_products<0>();
  write(d, out);
}

bool is_product(const std::vector<float>& d) {
  const int columns = static_cast<int>(d.size()) / kRows;
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < columns; ++column) {
      float want = 0;
      for (int k = 0; k < kSteps; ++k) {
        want += value_of(0, row, k) * value_of(1, k, column);
      }
      if (!(d[static_cast<std::size_t>(row * columns + column)] == want)) {
        return false;
      }
    }
  }
  return true;
}

// What a kernel gave in each of four orders: "" for the product, "wrong", or the error.
std::vector<std::string> outcomes(void (*kernel)(float*), int columns) {
  std::vector<std::string> all;
  for (const uint64_t order : {0, 1, 2, 3}) {
    on_host::set_order(order);
    std::vector<float> d(static_cast<std::size_t>(kRows * columns));
    try {
      launch_with_shared(kernel, 1, kThreads, kShared, nullptr, d.data());
      all.push_back(is_product(d) ? "" : "wrong");
    } catch (const Error& error) {
      all.push_back(error.what());
    }
  }
  on_host::set_order(0);
  return all;
}

const std::vector<std::string> kRight(4);

TEST(WarpgroupOnHost, MultipliesOperandsThatLieEitherWayAndThoseInRegisters) {
  EXPECT_EQ(outcomes(product_by_rows<Mistake::kNone>, 32), kRight);
  EXPECT_EQ(outcomes(product_by_panels, 256), kRight);
  EXPECT_EQ(outcomes(product_of_registers<Mistake::kNone>, 128), kRight);
}

TEST(WarpgroupOnHost, OperandsThatAreNotPublishedOrThereYetShow) {
  EXPECT_EQ(outcomes(product_by_rows<Mistake::kNotPublished>, 32),
            std::vector<std::string>(4, "wrong"));
  EXPECT_NE(outcomes(product_by_rows<Mistake::kNoBarrier>, 32), kRight);
}

TEST(WarpgroupOnHost, ResultsThatAreReadTooEarlyShow) {
  EXPECT_EQ(outcomes(product_by_rows<Mistake::kNoWait>, 32), std::vector<std::string>(4, "wrong"));
}

TEST(WarpgroupOnHost, OperandsThatAreOverwrittenTooEarlyShow) {
  EXPECT_NE(outcomes(product_by_rows<Mistake::kOperandOverwritten>, 32), kRight);
}

void expect_errors(const std::vector<std::string>& outcomes, const std::string& message) {
  for (const auto& outcome : outcomes) {
    EXPECT_NE(outcome.find(message), std::string::npos) << outcome;
  }
}

TEST(WarpgroupOnHost, WhatIsForgottenOrTouchedMeanwhileIsAnError) {
  expect_errors(outcomes(product_by_rows<Mistake::kNoFence>, 32), "lacks the fence");
  expect_errors(outcomes(product_of_registers<Mistake::kNoFence>, 128), "lacks the fence");
  expect_errors(outcomes(product_by_rows<Mistake::kNotWaitedFor>, 32), "did not wait for");
  expect_errors(outcomes(product_by_rows<Mistake::kSumsWritten>, 32), "sums of a product");
  expect_errors(outcomes(product_of_registers<Mistake::kRegistersWritten>, 128),
                "registers of a product");
  expect_errors(outcomes(product_by_rows<Mistake::kOneWarpMore>, 32),
                "the warps of a warpgroup multiply different things");
}

}  // namespace
}  // namespace braid::cuda
