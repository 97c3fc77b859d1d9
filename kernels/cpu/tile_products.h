#pragma once
// Products of tiles that fit the cache, called from inside our own threads: the pieces of
// kernels/cpu/gemm_loops.h, with right operands that are packed once and used several times.
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/aligned.h"
#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/bfloat16.h"
#include "kernels/cpu/gemm_loops.h"
#include "kernels/cpu/matrix_loops.h"

namespace braid {

/// The kernels of this machine for float32 and for bfloat16 products.
inline GemmKernels gemm_of_floats() {
  return BRAID_CPU(gemm_of_floats)();
}
inline GemmKernels gemm_of_bf16() {
#if defined(__x86_64__)
  if (cpu_isa() == CpuIsa::kAmx) {
    return amx::gemm_of_bf16();
  }
#endif
  return has_bf16_products() ? BRAID_CPU(gemm_of_bf16)() : gemm_of_floats();
}

/// Of float32 products in three parts; only where cpu_isa() is kAmx.
inline GemmKernels gemm_of_split_floats() {
#if defined(__x86_64__)
  if (cpu_isa() == CpuIsa::kAmx) {
    return amx::gemm_of_split_floats();
  }
#endif
  return gemm_of_floats();
}

/// Units of `depth` elements along k.
inline int64_t units_of(const GemmKernels& kernels, int64_t depth) {
  return kernels.parts == 1 ? blocks(depth, kernels.pair)
                            : blocks(depth, kSplitDepth) * kSplitUnits * kernels.parts;
}

/// While it is there, products of this thread keep the set-up of their registers
/// (GemmKernels::keep_registers).
class KeptRegisters {
 public:
  explicit KeptRegisters(const GemmKernels& kernels) : kernels_(kernels) {
    kernels_.keep_registers(true);
  }
  ~KeptRegisters() { kernels_.keep_registers(false); }
  KeptRegisters(const KeptRegisters&) = delete;
  KeptRegisters& operator=(const KeptRegisters&) = delete;

 private:
  const GemmKernels& kernels_;
};

/// Rows [row, row + rows), columns [k, k + depth) of A, packed: in place where they lie so already,
/// else in `scratch`. Rows are lda units apart.
inline const uint32_t* packed_rows(const GemmKernels& kernels,
                                   const GemmOperand& a,
                                   int64_t row,
                                   int64_t k,
                                   int64_t rows,
                                   int64_t depth,
                                   AlignedVector<uint32_t>& scratch,
                                   int64_t& lda) {
  const bool in_place = !a.by_columns && !a.rounded && kernels.parts == 1 &&
                        a.bf16 == (kernels.pair == 2) && depth % kernels.pair == 0 &&
                        a.stride % kernels.pair == 0;
  if (in_place) {
    lda = a.stride / kernels.pair;
    return static_cast<const uint32_t*>(a.data) + row * lda + k / kernels.pair;
  }
  constexpr int64_t kGap = 16;  // units: lines of neighboring rows share no set of the cache
  lda = units_of(kernels, depth) + kGap;
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
  AlignedVector<T> values;
};

/// Of one thread. Operands are float64, or float32 and bfloat16 in any mixture; sums are wide. For
/// products `in_bf16` float32 operands are rounded while they are packed, where the machine
/// multiplies pairs (has_bf16_products()); elsewhere, and for others, bfloat16 ones are widened.
template <class T>
class TileProducts;

template <>
class TileProducts<float> {
 public:
  using Packed = PackedTile<uint32_t>;

  explicit TileProducts(bool in_bf16 = false)
      : kernels_(in_bf16 ? gemm_of_bf16() : gemm_of_floats()) {}

  /// Whether pairs of bfloat16 are multiplied: float32 operands are then rounded.
  bool multiplies_pairs() const { return kernels_.pair == 2; }

  /// Rows or columns without gaps (`by_columns`), `stride` elements apart.
  static GemmOperand operand(const void* data, int64_t stride, bool by_columns, bool bf16 = false) {
    return {data, stride, by_columns, bf16, false};
  }

  void pack(const GemmOperand& b, int64_t k, int64_t n, Packed& packed) const {
    make_room(k, n, packed);
    pack_columns(b, 0, n, packed);
  }

  /// The same in parts, by several threads: memory first, then columns [first, end), the first of
  /// them a multiple of kColumns.
  static constexpr int64_t kColumns = 64;
  void make_room(int64_t k, int64_t n, Packed& packed) const {
    packed.k = k;
    packed.n = n;
    packed.values.resize(blocks(n, kernels_.width) * kernels_.width * units(k));
  }
  void pack_columns(const GemmOperand& b, int64_t first, int64_t end, Packed& packed) const {
    const int64_t stride = kernels_.width * units(packed.k);
    uint32_t* to = packed.values.data() + first / kernels_.width * stride;
    for (int64_t column = first; column < end; column += kernels_.width, to += stride) {
      kernels_.pack_b(b, 0, column, packed.k, std::min(kernels_.width, packed.n - column), to);
    }
  }

  /// c [m, n] (+)= a [m, k] b, rows of c ldc apart.
  void multiply(const GemmOperand& a,
                const Packed& b,
                float* c,
                int64_t ldc,
                int64_t m,
                bool accumulate = false) {
    multiply_rows(a, b, c, ldc, 0, m, b.n, accumulate, [](int64_t) { return int64_t{0}; });
  }

  /// Of a symmetric c = a b: what of the rows [first, first + m) stands left of the diagonal or on
  /// it. `a` and `c` are whole. Beyond the diagonal some of the row's block is written as well.
  void multiply_lower(
      const GemmOperand& a, const Packed& b, float* c, int64_t ldc, int64_t first, int64_t m) {
    multiply_rows(a, b, c + first * ldc, ldc, first, m, first + m, false, [&](int64_t column) {
      return std::max<int64_t>(0, column - first) / tile_rows() * tile_rows();
    });
  }

  /// Blocks of rows are best a multiple of so many.
  int64_t tile_rows() const { return kernels_.rows; }

 private:
  int64_t units(int64_t k) const { return blocks(k, kernels_.pair); }

  // Rows [first, first + m) of a, columns [0, n) of b; of each panel the rows from
  // first_row(column) on.
  template <class FirstRow>
  void multiply_rows(const GemmOperand& a,
                     const Packed& b,
                     float* c,
                     int64_t ldc,
                     int64_t first,
                     int64_t m,
                     int64_t n,
                     bool accumulate,
                     const FirstRow& first_row) {
    constexpr int64_t kDepthUnits = 256;  // a panel's share stays in the L1 cache
    const KeptRegisters kept(kernels_);
    const int64_t most = kDepthUnits * kernels_.pair, stride = kernels_.width * units(b.k);
    for (int64_t k = 0; k < b.k; k += most) {
      const int64_t depth = std::min(most, b.k - k);
      int64_t lda = 0;
      const uint32_t* left = packed_rows(kernels_, a, first, k, m, depth, left_, lda);
      const uint32_t* panel = b.values.data() + k / kernels_.pair * kernels_.width;
      for (int64_t column = 0; column < n; column += kernels_.width, panel += stride) {
        const int64_t row = first_row(column), columns = std::min(kernels_.width, n - column);
        count_flops(2 * (m - row) * columns * depth);
        kernels_.multiply(left + row * lda,
                          lda,
                          panel,
                          c + row * ldc + column,
                          ldc,
                          m - row,
                          columns,
                          units(depth),
                          accumulate || k > 0);
      }
    }
  }

  GemmKernels kernels_;
  AlignedVector<uint32_t> left_;
};

template <>
class TileProducts<double> {
 public:
  using Packed = PackedTile<double>;

  explicit TileProducts(bool = false) {}

  static GemmOperand operand(const void* data, int64_t stride, bool by_columns, bool = false) {
    return {data, stride, by_columns, false, false};
  }

  void pack(const GemmOperand& b, int64_t k, int64_t n, Packed& packed) const {
    make_room(k, n, packed);
    pack_columns(b, 0, n, packed);
  }

  static constexpr int64_t kColumns = 64;
  static int64_t tile_rows() { return 6; }
  void make_room(int64_t k, int64_t n, Packed& packed) const {
    packed.k = k;
    packed.n = n;
    packed.values.resize(k * n);
  }
  void pack_columns(const GemmOperand& b, int64_t first, int64_t end, Packed& packed) const {
    lay_out(b, packed.k, first, end, packed.values.data(), packed.n);
  }

  void multiply(const GemmOperand& a,
                const Packed& b,
                double* c,
                int64_t ldc,
                int64_t m,
                bool accumulate = false) {
    count_flops(2 * m * b.n * b.k);
    BRAID_CPU(dense_product<double>)
    (left(a, 0, m, b.k), b.values.data(), c, m, b.n, b.k, b.n, ldc, accumulate);
  }

  void multiply_lower(
      const GemmOperand& a, const Packed& b, double* c, int64_t ldc, int64_t first, int64_t m) {
    count_flops(2 * m * (first + m) * b.k);
    BRAID_CPU(dense_product<double>)
    (left(a, first, m, b.k),
     b.values.data(),
     c + first * ldc,
     m,
     first + m,
     b.k,
     b.n,
     ldc,
     /*accumulate=*/false);
  }

 private:
  // Rows [row, row + rows), without gaps.
  const double* left(GemmOperand a, int64_t row, int64_t rows, int64_t k) {
    a.data = static_cast<const double*>(a.data) + (a.by_columns ? row : row * a.stride);
    left_.resize(rows * k);
    lay_out(a, rows, 0, k, left_.data(), k);
    return left_.data();
  }

  // Columns [first, end), row by row; rows of `to` stand `ld` apart.
  static void lay_out(
      const GemmOperand& from, int64_t rows, int64_t first, int64_t end, double* to, int64_t ld) {
    const auto* data = static_cast<const double*>(from.data);
    if (from.by_columns) {
      BRAID_CPU(transpose<double>)
      (data + first * from.stride, from.stride, to + first, ld, end - first, rows);
      return;
    }
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(data + row * from.stride + first, end - first, to + row * ld + first);
    }
  }

  AlignedVector<double> left_;
};

/// For activations E, bfloat16 or wide: their products, and rows or columns of them as operands.
template <class E>
inline constexpr bool kIsBf16 = std::is_same_v<E, Bfloat16>;
template <class E>
using ProductsOf = TileProducts<std::conditional_t<kIsBf16<E>, float, E>>;
template <class E>
ProductsOf<E> products_of() {
  return ProductsOf<E>(/*in_bf16=*/kIsBf16<E>);
}
template <class E>
GemmOperand activations(const E* data, int64_t stride, bool by_columns) {
  return ProductsOf<E>::operand(data, stride, by_columns, kIsBf16<E>);
}

}  // namespace braid
