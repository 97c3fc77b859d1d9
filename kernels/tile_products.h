#pragma once
// Products of tiles that fit the cache, called from inside our own threads: the pieces of
// kernels/gemm_cpu.h, with right operands that are packed once and used several times.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/attention_cpu.h"
#include "kernels/gemm_cpu.h"

namespace braid {

/// Rows [row, row + rows), columns [k, k + depth) of A, packed: in place where they lie so already,
/// else in `scratch`.  Rows are lda units apart.
inline const uint32_t* packed_rows(const GemmKernels& kernels,
                                   const GemmOperand& a,
                                   int64_t row,
                                   int64_t k,
                                   int64_t rows,
                                   int64_t depth,
                                   std::vector<uint32_t>& scratch,
                                   int64_t& lda) {
  const bool in_place = !a.by_columns && !a.rounded && a.bf16 == (kernels.pair == 2) &&
                        depth % kernels.pair == 0 && a.stride % kernels.pair == 0;
  if (in_place) {
    lda = a.stride / kernels.pair;
    return static_cast<const uint32_t*>(a.data) + row * lda + k / kernels.pair;
  }
  constexpr int64_t kGap = 16;  // units: lines of neighbouring rows share no set of the cache
  lda = blocks(depth, kernels.pair) + kGap;
  if (static_cast<int64_t>(scratch.size()) < rows * lda) {
    scratch.resize(rows * lda);
  }
  kernels.pack_a(a, row, k, rows, depth, scratch.data(), lda);
  return scratch.data();
}

/// A right operand [k, n], packed.
template <class T>
struct PackedTile {
  int64_t k = 0, n = 0;
  std::vector<T> values;
};

/// Of one thread.  Operands are float64, or float32 and bfloat16 in any mixture; bfloat16 ones are
/// widened while they are packed.
template <class T>
class TileProducts;

template <>
class TileProducts<float> {
 public:
  using Packed = PackedTile<uint32_t>;

  /// Rows or columns without gaps (`by_columns`), `stride` elements apart.
  static GemmOperand operand(const void* data, int64_t stride, bool by_columns, bool bf16 = false) {
    return {data, stride, by_columns, bf16, false};
  }

  void pack(const GemmOperand& b, int64_t k, int64_t n, Packed& packed) const {
    packed.k = k;
    packed.n = n;
    const int64_t panel = k * kernels_.width;
    packed.values.resize(blocks(n, kernels_.width) * panel);
    uint32_t* to = packed.values.data();
    for (int64_t column = 0; column < n; column += kernels_.width, to += panel) {
      kernels_.pack_b(b, 0, column, k, std::min(kernels_.width, n - column), to);
    }
  }

  /// c [m, n] (+)= a [m, k] b, rows of c ldc apart.
  void multiply(const GemmOperand& a,
                const Packed& b,
                float* c,
                int64_t ldc,
                int64_t m,
                bool accumulate = false) {
    count_flops(2 * m * b.n * b.k);
    constexpr int64_t kDepth = 256;  // a panel's share stays in the L1 cache
    for (int64_t k = 0; k < b.k; k += kDepth) {
      const int64_t depth = std::min(kDepth, b.k - k);
      int64_t lda = 0;
      const uint32_t* left = packed_rows(kernels_, a, 0, k, m, depth, left_, lda);
      const uint32_t* panel = b.values.data() + k * kernels_.width;
      for (int64_t column = 0; column < b.n;
           column += kernels_.width, panel += b.k * kernels_.width) {
        kernels_.multiply(left,
                          lda,
                          panel,
                          c + column,
                          ldc,
                          m,
                          std::min(kernels_.width, b.n - column),
                          depth,
                          accumulate || k > 0);
      }
    }
  }

 private:
  GemmKernels kernels_ = BRAID_CPU(gemm_of_floats)();
  std::vector<uint32_t> left_;
};

template <>
class TileProducts<double> {
 public:
  using Packed = PackedTile<double>;

  static GemmOperand operand(const void* data, int64_t stride, bool by_columns, bool = false) {
    return {data, stride, by_columns, false, false};
  }

  void pack(const GemmOperand& b, int64_t k, int64_t n, Packed& packed) const {
    packed.k = k;
    packed.n = n;
    lay_out(b, k, n, packed.values);
  }

  void multiply(const GemmOperand& a,
                const Packed& b,
                double* c,
                int64_t ldc,
                int64_t m,
                bool accumulate = false) {
    count_flops(2 * m * b.n * b.k);
    lay_out(a, m, b.k, left_);
    BRAID_CPU(dense_product<double>)
    (left_.data(), b.values.data(), c, m, b.n, b.k, b.n, ldc, accumulate);
  }

 private:
  // Row by row, without gaps.
  static void lay_out(const GemmOperand& from,
                      int64_t rows,
                      int64_t columns,
                      std::vector<double>& to) {
    const auto* data = static_cast<const double*>(from.data);
    to.resize(rows * columns);
    if (from.by_columns) {
      BRAID_CPU(transpose<double>)(data, from.stride, to.data(), columns, columns, rows);
      return;
    }
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(data + row * from.stride, columns, to.data() + row * columns);
    }
  }

  std::vector<double> left_;
};

}  // namespace braid
