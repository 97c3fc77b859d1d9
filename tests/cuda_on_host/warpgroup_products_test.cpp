// Products of warpgroups, as kernels/cuda/warpgroup.h has them: each test has a kernel that is
// right or wrong in one way.
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include <gtest/gtest.h>

#include "core/error.h"
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

// An operand whose element (i, k), k being the term of a sum, is value(i, k); there are `count` i.
template <bool kPanels, int kCount, class Value>
auto put_operand(unsigned char* memory, const Value& value) {
  using Rows = std::conditional_t<kPanels,
                                  PanelRows<(kCount < 64 ? 64 : kCount), kSteps>,
                                  PanelRows<kSteps, kCount>>;
  const Rows rows{memory};
  for (int at = thread_index(); at < kCount * kSteps; at += kThreads) {
    const int i = at / kSteps, k = at % kSteps;
    put(rows, kPanels ? k : i, kPanels ? i : k, value(i, k));
  }
  return rows;
}
template <bool kPanels, class Rows>
auto operand(const Rows& rows, int k) {
  if constexpr (kPanels) {
    return by_panels(rows, 0, k);
  } else {
    return by_rows(rows, 0, k);
  }
}
float value_of_a(int row, int k) {
  return value_of(0, row, k);
}
float value_of_b(int column, int k) {
  return value_of(1, k, column);
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

// [64, 2 kSums] of operands in memory.
template <int kSums, bool kAPanels, bool kBPanels, Mistake kMistake = Mistake::kNone>
void product(float* out) {
  BRAID_DYNAMIC_SHARED(memory);
  const auto a = put_operand<kAPanels, kRows>(memory, value_of_a);
  const auto b = put_operand<kBPanels, 2 * kSums>(memory + a.kBytes, value_of_b);
  if (kMistake != Mistake::kNotPublished) {
    publish_shared();
  }
  if (kMistake != Mistake::kNoBarrier) {
    __syncthreads();
  }
  float d[kSums] = {};
  if (kMistake != Mistake::kNoFence) {
    fence_registers(d);
  }
  for (int k = 0; k < kSteps / 16; ++k) {
    warpgroup_multiply(d, operand<kAPanels>(a, k), operand<kBPanels>(b, k), k > 0);
  }
  if (kMistake == Mistake::kOneWarpMore && thread_index() < kWarp) {
    warpgroup_multiply(d, operand<kAPanels>(a, 0), operand<kBPanels>(b, 0), true);
  }
  commit_products();
  if (kMistake == Mistake::kOperandOverwritten && thread_index() == 0) {
    put(a, 3, 5, 1000.0f);
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

template <Mistake kMistake>
constexpr auto product_with = product<16, false, false, kMistake>;

// [64, 2 kSums] with a in registers, one step's while the step before is multiplied.
template <int kSums, bool kBPanels, Mistake kMistake = Mistake::kNone>
void product_of_registers(float* out) {
  BRAID_DYNAMIC_SHARED(memory);
  const auto b = put_operand<kBPanels, 2 * kSums>(memory, value_of_b);
  publish_shared();
  __syncthreads();
  const Documented documented{thread_index() % kWarpgroup};
  float d[kSums] = {};
  uint32_t a[2][4];
  for (int k = 0; k < kSteps / 16; ++k) {
    if (k >= 2 && kMistake != Mistake::kRegistersWritten) {
      wait_for_products<1>();
    }
    for (int i = 0; i < 4; ++i) {
      const int row = documented.a_row(2 * i), column = 16 * k + documented.a_column(2 * i);
      a[k % 2][i] = narrowed_pair(value_of_a(row, column), value_of_a(row, column + 1));
    }
    if (kMistake != Mistake::kNoFence || k == 0) {
      fence_registers(d, a[k % 2]);
    } else {
      fence_registers(d);
    }
    warpgroup_multiply(d, a[k % 2], operand<kBPanels>(b, k), k > 0);
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

template <int kSums>
void expect_products() {
  EXPECT_EQ(outcomes(product<kSums, false, false>, 2 * kSums), kRight);
  EXPECT_EQ(outcomes(product<kSums, false, true>, 2 * kSums), kRight);
  EXPECT_EQ(outcomes(product<kSums, true, false>, 2 * kSums), kRight);
  EXPECT_EQ(outcomes(product<kSums, true, true>, 2 * kSums), kRight);
  EXPECT_EQ(outcomes(product_of_registers<kSums, false>, 2 * kSums), kRight);
  EXPECT_EQ(outcomes(product_of_registers<kSums, true>, 2 * kSums), kRight);
}

TEST(WarpgroupOnHost, MultipliesOperandsThatLieEitherWayAndThoseInRegisters) {
  expect_products<16>();
  expect_products<32>();
  expect_products<64>();
  expect_products<128>();
}

const std::vector<std::string> kWrong(4, "wrong");

TEST(WarpgroupOnHost, OperandsThatAreNotPublishedOrThereYetShow) {
  EXPECT_EQ(outcomes(product_with<Mistake::kNotPublished>, 32), kWrong);
  EXPECT_NE(outcomes(product_with<Mistake::kNoBarrier>, 32), kRight);
}

TEST(WarpgroupOnHost, ResultsThatAreReadTooEarlyShow) {
  EXPECT_EQ(outcomes(product_with<Mistake::kNoWait>, 32), kWrong);
}

TEST(WarpgroupOnHost, OperandsThatAreOverwrittenTooEarlyShow) {
  EXPECT_NE(outcomes(product_with<Mistake::kOperandOverwritten>, 32), kRight);
}

void expect_errors(const std::vector<std::string>& outcomes, const std::string& message) {
  for (const auto& outcome : outcomes) {
    EXPECT_NE(outcome.find(message), std::string::npos) << outcome;
  }
}

TEST(WarpgroupOnHost, WhatIsForgottenOrTouchedMeanwhileIsAnError) {
  expect_errors(outcomes(product_with<Mistake::kNoFence>, 32), "lacks the fence");
  expect_errors(outcomes(product_of_registers<64, false, Mistake::kNoFence>, 128),
                "lacks the fence");
  expect_errors(outcomes(product_with<Mistake::kNotWaitedFor>, 32), "did not wait for");
  expect_errors(outcomes(product_with<Mistake::kSumsWritten>, 32), "sums of a product");
  expect_errors(outcomes(product_of_registers<64, false, Mistake::kRegistersWritten>, 128),
                "registers of a product");
  expect_errors(outcomes(product_with<Mistake::kOneWarpMore>, 32),
                "the warps of a warpgroup multiply different things");
}

}  // namespace
}  // namespace braid::cuda
