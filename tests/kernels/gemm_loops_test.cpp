// The pieces of matrix products, in every instruction set that this machine has. Pairs of bfloat16
// are tested on all machines, in vectors and on tile registers: the loops are the kernel's own,
// compiled here with the instructions spelled out that multiply and round.
#include "kernels/cpu/gemm_loops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/codec.h"
#include "kernels/codec_cpu.h"
#include "kernels/cpu/bf16_rows_loops.h"
#include "kernels/cpu/tile_products.h"
#include "kernels/gemm_cpu.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

#define BRAID_CPU_ISA spelled_out
#define BRAID_VECTOR_BYTES 64
#include "kernels/cpu/amx_tile.h"

namespace braid::spelled_out {

// What vdpbf16ps does, apart from its treatment of numbers below 2^-126.
struct Pairs {
  static constexpr int64_t kPair = 2;
  static Floats multiply_add(const Floats& sum, const Floats& a, const Floats& b) {
    const auto first = [](const Floats& pairs) { return (Floats)((Units)pairs << 16); };
    const auto second = [](const Floats& pairs) { return (Floats)((Units)pairs & 0xFFFF0000); };
    return sum + second(a) * second(b) + first(a) * first(b);
  }
};

GemmKernels gemm_of_pairs() {
  return kernels_of<Pairs>();
}

// The eight tile registers of a thread, with what the instructions refuse (#UD, #GP), and a count
// of their set-ups.
struct TilesState {
  bool configured = false;
  TileShape shape;
  std::array<uint32_t, kTileSide * kTileSide> registers[8];
};
struct Tiles {
  static inline thread_local TilesState state;
  static inline thread_local int64_t configurations = 0;

  static void configure(const TileShape& shape) {
    for (int i = 0; i < 8; ++i) {
      require(shape.rows(i) >= 1 && shape.rows(i) <= 16, "rows of a register: ", shape.rows(i));
      require(shape.row_bytes(i) >= 4 && shape.row_bytes(i) <= 64, "bytes: ", shape.row_bytes(i));
      state.registers[i].fill(0);
    }
    state.configured = true;
    state.shape = shape;
    ++configurations;
  }
  static void release() { state.configured = false; }

  static auto& values(int index) {
    require(state.configured, "tile register ", index, " is used without a configuration");
    return state.registers[index];
  }
  template <int kRegister>
  static void zero() {
    values(kRegister).fill(0);
  }
  template <int kRegister>
  static void load(const void* from, int64_t row_bytes) {
    zero<kRegister>();
    for (int row = 0; row < state.shape.rows(kRegister); ++row) {
      std::memcpy(values(kRegister).data() + row * kTileSide,
                  static_cast<const char*>(from) + row * row_bytes,
                  state.shape.row_bytes(kRegister));
    }
  }
  template <int kRegister>
  static void store(void* to, int64_t row_bytes) {
    for (int row = 0; row < state.shape.rows(kRegister); ++row) {
      std::memcpy(static_cast<char*>(to) + row * row_bytes,
                  values(kRegister).data() + row * kTileSide,
                  state.shape.row_bytes(kRegister));
    }
  }
  // What tdpbf16ps does, apart from its treatment of numbers below 2^-126.
  template <int kSum, int kA, int kB>
  static void multiply_add() {
    const auto& shape = state.shape;
    require(shape.rows(kSum) == shape.rows(kA) && shape.row_bytes(kA) == 4 * shape.rows(kB) &&
                shape.row_bytes(kSum) == shape.row_bytes(kB),
            "sizes of registers ",
            kSum,
            ", ",
            kA,
            ", ",
            kB,
            " do not fit");
    const auto value = [](uint32_t pair, bool second) {
      return c10::detail::fp32_from_bits(second ? pair & 0xFFFF0000 : pair << 16);
    };
    auto& sums = values(kSum);
    for (int64_t row = 0; row < shape.rows(kSum); ++row) {
      for (int64_t column = 0; column < kTileSide; ++column) {
        float each[2] = {};
        for (int64_t unit = 0; unit < shape.units; ++unit) {
          for (const bool second : {false, true}) {
            each[second] += value(values(kA)[row * kTileSide + unit], second) *
                            value(values(kB)[unit * kTileSide + column], second);
          }
        }
        uint32_t& bits = sums[row * kTileSide + column];
        float sum;
        std::memcpy(&sum, &bits, sizeof sum);
        sum += each[0] + each[1];
        std::memcpy(&bits, &sum, sizeof sum);
      }
    }
  }
};

GemmKernels gemm_on_tiles() {
  return kernels_on_tiles<Tiles>();
}
GemmKernels gemm_of_split_floats() {
  return split_kernels_on_tiles<Tiles>();
}

}  // namespace braid::spelled_out

namespace braid {
namespace {

using testing::normal_tensor;

struct Variant {
  const char* name;
  GemmKernels kernels;
};

std::vector<Variant> variants() {
  std::vector<Variant> result = {{"baseline", baseline::gemm_of_floats()},
                                 {"pairs spelled out", spelled_out::gemm_of_pairs()},
                                 {"tiles spelled out", spelled_out::gemm_on_tiles()},
                                 {"split floats spelled out", spelled_out::gemm_of_split_floats()}};
  if (cpu_isa() >= CpuIsa::kAvx2) {
    result.push_back({"avx2", avx2::gemm_of_floats()});
  }
  if (cpu_isa() >= CpuIsa::kAvx512) {
    result.push_back({"avx512", avx512::gemm_of_floats()});
  }
  if (cpu_isa() >= CpuIsa::kAvx512Bf16) {
    result.push_back({"avx512bf16 of float32", avx512bf16::gemm_of_floats()});
    result.push_back({"avx512bf16", avx512bf16::gemm_of_bf16()});
  }
#if defined(__x86_64__)
  if (cpu_isa() >= CpuIsa::kAmx) {
    result.push_back({"amx", amx::gemm_of_bf16()});
    result.push_back({"amx of split floats", amx::gemm_of_split_floats()});
  }
#endif
  return result;
}

// Whether float32 operands are rounded to bfloat16.
bool rounds(const GemmKernels& kernels) {
  return kernels.pair == 2 && kernels.parts == 1;
}

GemmOperand operand(const at::Tensor& matrix, bool by_columns, bool rounded) {
  return {matrix.const_data_ptr(),
          matrix.stride(by_columns ? 1 : 0),
          by_columns,
          matrix.scalar_type() == at::kBFloat16,
          rounded};
}

struct Sizes {
  int64_t rows, columns, depth;
};

// A product of one block out of larger matrices, panel by panel.
TEST(GemmPieces, OfEveryInstructionSetMultiplyEveryLayoutAndType) {
  constexpr int64_t kRow = 3, kK = 5, kColumn = 2;
  for (const auto& [name, kernels] : variants()) {
    for (const auto& [rows, columns, depth] :
         {Sizes{6, 64, 16}, {1, 1, 1}, {13, 71, 33}, {5, 24, 40}, {2, 130, 7}, {49, 40, 100}}) {
      for (const auto a_type : {at::kFloat, at::kBFloat16}) {
        for (const auto b_type : {at::kFloat, at::kBFloat16}) {
          for (const bool a_by_columns : {false, true}) {
            for (const bool b_by_columns : {false, true}) {
              const auto laid_out = [](const at::Tensor& matrix, bool by_columns) {
                return by_columns ? matrix.t().contiguous().t() : matrix;
              };
              const bool rounded = rounds(kernels) || a_type != b_type;
              const auto a = laid_out(normal_tensor("a", {rows + kRow, depth + kK + 2}).to(a_type),
                                      a_by_columns);
              const auto b = laid_out(
                  normal_tensor("b", {depth + kK, columns + kColumn + 1}).to(b_type), b_by_columns);
              const auto c = normal_tensor("c", {rows, columns + 2}, at::kFloat);
              const auto exact = [&](const at::Tensor& t) {
                return (rounded ? t.to(at::kBFloat16) : t).to(at::kDouble);
              };
              auto want = c.to(at::kDouble);
              want.narrow(1, 0, columns) +=
                  at::mm(exact(a.narrow(0, kRow, rows).narrow(1, kK, depth)),
                         exact(b.narrow(0, kK, depth).narrow(1, kColumn, columns)));

              const int64_t units = units_of(kernels, depth);
              const int64_t lda = units + 3;
              std::vector<uint32_t> packed_a(rows * lda), panel(units * kernels.width);
              kernels.pack_a(
                  operand(a, a_by_columns, rounded), kRow, kK, rows, depth, packed_a.data(), lda);
              for (int64_t column = 0; column < columns; column += kernels.width) {
                const int64_t count = std::min(kernels.width, columns - column);
                kernels.pack_b(operand(b, b_by_columns, rounded),
                               kK,
                               kColumn + column,
                               depth,
                               count,
                               panel.data());
                kernels.multiply(packed_a.data(),
                                 lda,
                                 panel.data(),
                                 c.data_ptr<float>() + column,
                                 columns + 2,
                                 rows,
                                 count,
                                 units,
                                 /*accumulate=*/true);
              }
              testing::expect_close(
                  text(name, " ", rows, " x ", columns, " x ", depth), c, want, {.relative = 1e-6});
            }
          }
        }
      }
    }
  }
}

// Rows and columns get the same bits whatever others are computed with them, so that results do not
// depend on how threads divide a matrix; the set-up of tile registers is kept only when asked for.
TEST(GemmPieces, GiveTheSameBitsInAnyBlocksOfRows) {
  constexpr int64_t kRows = 77, kDepth = 150;
  const auto a = normal_tensor("a", {kRows, kDepth}, at::kFloat),
             b = normal_tensor("b", {kDepth, 64}, at::kFloat);
  for (const auto& [name, kernels] : variants()) {
    const int64_t units = units_of(kernels, kDepth);
    std::vector<uint32_t> packed_a(kRows * units), panel(units * kernels.width);
    const bool rounded = rounds(kernels);
    const int64_t columns = kernels.width - 3;
    kernels.pack_a(operand(a, false, rounded), 0, 0, kRows, kDepth, packed_a.data(), units);
    kernels.pack_b(operand(b, false, rounded), 0, 0, kDepth, columns, panel.data());
    const auto in_blocks = [&, &kernels = kernels](int64_t rows) {
      auto c = at::zeros({kRows, columns}, at::kFloat);
      for (int64_t row = 0; row < kRows; row += rows) {
        kernels.multiply(packed_a.data() + row * units,
                         units,
                         panel.data(),
                         c.data_ptr<float>() + row * columns,
                         columns,
                         std::min(rows, kRows - row),
                         columns,
                         units,
                         /*accumulate=*/false);
      }
      return c;
    };
    const auto want = in_blocks(kRows);
    for (const int64_t rows : {1, 5, 12, 16, 17, 32, 48}) {
      testing::expect_bitwise_equal(text(name, ", blocks of ", rows), in_blocks(rows), want);
    }
  }
  using spelled_out::Tiles;
  const auto kernels = spelled_out::gemm_on_tiles();
  const std::vector<uint32_t> block(16 * kernels.width);
  std::vector<float> c(kernels.width);
  const auto multiply = [&] {
    kernels.multiply(block.data(), 16, block.data(), c.data(), kernels.width, 1, 64, 16, false);
  };
  Tiles::configurations = 0;
  multiply();
  multiply();
  EXPECT_EQ(Tiles::configurations, 2);
  EXPECT_FALSE(Tiles::state.configured);
  kernels.keep_registers(true);
  multiply();
  multiply();
  EXPECT_EQ(Tiles::configurations, 3);
  kernels.keep_registers(false);
  EXPECT_FALSE(Tiles::state.configured);
}

// The driver with the kernels that other machines have, too: several blocks along every side, a
// right operand that is shared, results that are rounded.
TEST(GemmPieces, MakeWholeProductsOnAllThreads) {
  constexpr int64_t kM = 110, kK = 530, kN = 70;
  const auto float_a = normal_tensor("a", {kM, kK}, at::kFloat),
             float_b = normal_tensor("b", {kK, kN}, at::kFloat);
  for (const auto& [name, kernels] : variants()) {
    const bool rounded = rounds(kernels);
    for (const bool turned : {false, true}) {
      const auto a = turned ? float_a.t().contiguous().t() : float_a,
                 b = turned ? float_b.t().contiguous().t() : float_b;
      const auto exact = [&](const at::Tensor& t) {
        return (rounded ? t.to(at::kBFloat16) : t).to(at::kDouble);
      };
      const auto want = at::mm(exact(a), exact(b));
      auto whole = at::empty({kM, kN}, at::kFloat), part = at::empty({9, kN}, at::kFloat),
           narrow = at::empty({kM, kN}, at::kBFloat16);
      const auto product = [&](const at::Tensor& c) {
        return GemmProduct{operand(a, turned, rounded),
                           operand(b, turned, rounded),
                           c.data_ptr(),
                           kN,
                           c.scalar_type() == at::kBFloat16,
                           c.size(0),
                           kN,
                           kK};
      };
      multiply_by_kernels_cpu(kernels, {product(whole), product(part), product(narrow)}, false);
      // Of split factors: below 2^-21 of |a| |b|, which is far more than |a b| here.
      testing::expect_close(name, whole, want, {.relative = 2e-6});
      testing::expect_bitwise_equal(name, part, whole.narrow(0, 0, 9));
      testing::expect_bitwise_equal(name, narrow, whole.to(at::kBFloat16));
    }
  }
}

// As exact as float32 products are, within the error that is stated.
TEST(GemmPieces, OfFactorsInThreePartsAreNearlyExact) {
  const auto a = normal_tensor("a", {40, 300}, at::kFloat) * at::logspace(-3, 3, 300),
             b = normal_tensor("b", {300, 50}, at::kFloat);
  auto c = at::empty({40, 50}, at::kFloat);
  multiply_by_kernels_cpu(spelled_out::gemm_of_split_floats(),
                          {{operand(a, false, false),
                            operand(b, false, false),
                            c.data_ptr(),
                            50,
                            /*rounds=*/false,
                            40,
                            50,
                            300}},
                          false);
  const auto error = (c - at::mm(a.to(at::kDouble), b.to(at::kDouble))).abs(),
             bound = at::mm(a.to(at::kDouble).abs(), b.to(at::kDouble).abs());
  EXPECT_LT((error / bound).max().item<double>(), std::exp2(-21));
  const auto single = (at::mm(a, b) - at::mm(a.to(at::kDouble), b.to(at::kDouble))).abs();
  EXPECT_LT((error / bound).mean().item<double>(), 4 * (single / bound).mean().item<double>());
}

// Codes become the same panels, bit for bit, as their decoded values do.
TEST(GemmPieces, OfEveryInstructionSetDecodeIntoPanels) {
  constexpr int64_t kFirst = 64, kRows = 200, kColumns = 288;
  const auto w = normal_tensor("w", {kFirst + kRows, kColumns}) * 0.3;
  const Codes fp4 = encode_fp4(w), fp8 = encode_fp8(w, at::kFloat8_e8m0fnu),
              scaled{fp8.values, at::rand(fp8.scales.sizes()) + 0.1};
  for (const auto& [name, kernels] : variants()) {
    if (kernels.parts > 1) {
      continue;
    }
    for (const auto& [format, codes] :
         {std::pair{"FP4", fp4}, {"FP8", fp8}, {"FP8, F32", scaled}}) {
      const auto stored = decode_reference(codes).narrow(0, kFirst, kRows).contiguous();
      const bool is_fp8 = codes.values.scalar_type() == at::kFloat8_e4m3fn;
      for (const bool turned : {false, true}) {
        const auto arrays = code_arrays(codes);
        const int64_t shared = is_fp8 ? 128 : 32, groups = (kColumns + shared - 1) / shared;
        const CodedOperand coded{.values = arrays.values,
                                 .scales = arrays.scales,
                                 .fp8 = is_fp8,
                                 .float_scales = arrays.float_scales,
                                 .turned = turned,
                                 .rounded = true,
                                 .row_codes = kColumns,
                                 .first_row = kFirst,
                                 .scale_rows = is_fp8 ? 128 : 1,
                                 .scale_columns = shared,
                                 .scales_stride = groups};
        const auto b = turned ? stored.t() : stored;
        const int64_t depth = b.size(0), columns = b.size(1), most = kCodedUnits * kernels.pair;
        for (int64_t column = 0; column < columns; column += kernels.width) {
          const int64_t count = std::min(kernels.width, columns - column);
          std::vector<float> scales(groups * kernels.width);
          if (turned) {
            kernels.turn_scales(coded, column, count, groups, scales.data());
          }
          for (int64_t k = 0; k < depth; k += most) {
            const int64_t rows = std::min(most, depth - k);
            const int64_t size = (rows + kernels.pair - 1) / kernels.pair * kernels.width;
            std::vector<uint32_t> got(size + 7 * kernels.width), want(size);
            kernels.pack_codes(coded, scales.data(), k, column, rows, count, got.data());
            kernels.pack_b(operand(b, turned, true), k, column, rows, count, want.data());
            got.resize(size);
            ASSERT_EQ(got, want) << name << ", " << format << (turned ? ", turned" : "")
                                 << ", rows from " << k << ", columns from " << column;
          }
        }
      }
    }
  }
}

// All scales, those of tiny and huge values and NaN too.
TEST(GemmPieces, OfEveryInstructionSetDecodePairsOfFp4WithAnyScale) {
  constexpr int64_t kRows = 128, kColumns = 192;
  const auto values = at::randint(0, 256, {kRows, kColumns / 2}, at::kByte),
             scales = at::arange(kRows * kColumns / 32).remainder(256).to(at::kByte);
  for (const auto& [name, kernels] : variants()) {
    for (const bool turned : {false, true}) {
      const CodedOperand coded{.values = values.const_data_ptr<uint8_t>(),
                               .scales = scales.const_data_ptr<uint8_t>(),
                               .turned = turned,
                               .rounded = true,
                               .row_codes = kColumns,
                               .scales_stride = kColumns / 32};
      const int64_t columns = turned ? kRows : kColumns;
      const auto decoded = [&, turned = turned](const GemmKernels& by, int64_t column) {
        std::vector<float> of_columns(kColumns / 32 * by.width);
        if (turned) {
          by.turn_scales(coded, column, by.width, kColumns / 32, of_columns.data());
        }
        std::vector<uint32_t> panel((kCodedUnits + 8) * by.width);
        by.pack_codes(coded, of_columns.data(), 0, column, 128, by.width, panel.data());
        panel.resize(kCodedUnits * by.width);
        return panel;
      };
      for (int64_t column = 0; rounds(kernels) && column < columns; column += kernels.width) {
        ASSERT_EQ(decoded(kernels, column), decoded(spelled_out::gemm_of_pairs(), column))
            << name << (turned ? ", turned" : "") << ", columns from " << column;
      }
    }
  }
}

TEST(Bf16Rows, OfEveryInstructionSetRoundAsLibTorchDoes) {
  auto wide = normal_tensor("x", {1003}, at::kFloat);
  const float special[] = {
      0.0F, -0.0F, INFINITY, -INFINITY, 1e-40F, 3.4e38F, 1.00390625F, 1.01171875F};
  const auto check = [&](const char* name, auto* widen, auto* narrow, float tiny = 1e-40F) {
    for (int64_t i = 0; i < 8; ++i) {
      wide[i] = special[i] == 1e-40F ? tiny : special[i];
    }
    auto got = at::empty({1003}, at::kBFloat16), back = at::empty({1003}, at::kFloat);
    narrow(wide.const_data_ptr<float>(), static_cast<uint16_t*>(got.data_ptr()), 1003);
    testing::expect_bitwise_equal(name, got, wide.to(at::kBFloat16));
    widen(static_cast<const uint16_t*>(got.const_data_ptr()), back.data_ptr<float>(), 1003);
    testing::expect_bitwise_equal(name, back, got.to(at::kFloat));
    const float nan = std::nanf("");
    uint16_t bits = 0;
    narrow(&nan, &bits, 1);
    EXPECT_EQ(bits, 0x7FC0) << name;
  };
  check("baseline", &baseline::widen, &baseline::narrow);
  if (cpu_isa() >= CpuIsa::kAvx2) {
    check("avx2", &avx2::widen, &avx2::narrow);
  }
  if (cpu_isa() >= CpuIsa::kAvx512) {
    check("avx512", &avx512::widen, &avx512::narrow);
  }
  if (cpu_isa() >= CpuIsa::kAvx512Bf16) {
    check("avx512bf16", &avx512bf16::widen, &avx512bf16::narrow, /*tiny=*/1e-37F);
    // A vector and what is left over alike.
    for (const auto& [value, want] : {std::pair{1e-40F, 0}, {-1e-40F, 0x8000}, {NAN, 0x7FC0}}) {
      const std::vector<float> all(19, value);
      std::vector<uint16_t> bits(19, 1);
      avx512bf16::narrow(all.data(), bits.data(), 19);
      EXPECT_EQ(bits, std::vector<uint16_t>(19, static_cast<uint16_t>(want)));
    }
  }
}

}  // namespace
}  // namespace braid
