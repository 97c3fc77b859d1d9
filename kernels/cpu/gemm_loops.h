#pragma once
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace braid {

/// A matrix [rows, columns] of float32 or bfloat16 whose rows or columns have no gaps.
struct GemmOperand {
  const void* data = nullptr;
  int64_t stride = 0;       ///< elements between rows, or between columns where those have no gaps
  bool by_columns = false;  ///< columns have no gaps
  bool bf16 = false;        ///< elements are bfloat16
  bool rounded = false;     ///< float32 elements are rounded to bfloat16 first
};

/// A matrix of codes and scales (kernels/codec.h), or consecutive rows of one, as a right operand:
/// W as it is stored, or (`turned`) W^T.
struct CodedOperand {
  const uint8_t* values = nullptr;
  const uint8_t* scales = nullptr;
  bool fp8 = false;           ///< E4M3, a byte each, else E2M1, two to a byte
  bool float_scales = false;  ///< float32, else F8_E8M0
  bool turned = false;
  bool rounded = false;    ///< values are rounded to bfloat16; those of FP4 are exact in it
  int64_t row_codes = 0;   ///< of a stored row
  int64_t first_row = 0;   ///< stored, where the operand begins
  int64_t scale_rows = 1;  ///< rows and columns that share a scale
  int64_t scale_columns = 32;
  int64_t scales_stride = 0;  ///< scales of a stored row
};

/// Units of a panel that codes are decoded to: it stays in the L1 cache while it is multiplied.
constexpr int64_t kCodedUnits = 64;

/// Elements along k of a step of split values (GemmKernels::parts), and the units of each part.
constexpr int64_t kSplitDepth = 32, kSplitUnits = 16;

/// The pieces of a product C = A B whose operands are packed into units of 32 bits along k: one
/// float32, or two bfloat16 where an instruction multiplies pairs. A block of A is packed
/// [rows][units]; B in panels of `width` columns, each [units][width] and zero beyond its columns.
struct GemmKernels {
  int64_t width;  ///< columns of a panel
  int64_t pair;   ///< elements of a unit: 1 or 2
  int64_t rows;   ///< of the tile that registers hold: blocks of A are best a multiple of it high
  int64_t block_rows;  ///< of A at most, so that they stay in the L2 cache while panels come by
  int64_t panel_rows;  ///< fetching a panel takes as long as multiplying so many rows by it
  /// 1, or 3: each float32 is the sum of three bfloat16. Then kSplitDepth elements along k are a
  /// step, zero beyond the depth: kSplitUnits of each part, one part after the other.
  int64_t parts;
  /// Rows [row, row + rows), columns [k, k + depth) of A, to rows that are lda units apart.
  void (*pack_a)(const GemmOperand& a,
                 int64_t row,
                 int64_t k,
                 int64_t rows,
                 int64_t depth,
                 uint32_t* to,
                 int64_t lda);
  /// Rows [k, k + depth), columns [column, column + columns) of B to one panel.
  void (*pack_b)(const GemmOperand& b,
                 int64_t k,
                 int64_t column,
                 int64_t depth,
                 int64_t columns,
                 uint32_t* to);
  /// The same of codes, where parts is 1: k is a multiple of those that share a scale, depth at
  /// most kCodedUnits units. Writes up to seven rows of the panel more. `scales` are those of
  /// turn_scales() for these columns of a turned operand, else not read.
  void (*pack_codes)(const CodedOperand& b,
                     const float* scales,
                     int64_t k,
                     int64_t column,
                     int64_t depth,
                     int64_t columns,
                     uint32_t* to);
  /// The first `groups` scales of `columns` columns of a turned operand: [groups][width], zero
  /// beyond the columns.
  void (*turn_scales)(
      const CodedOperand& b, int64_t column, int64_t columns, int64_t groups, float* to);
  /// C [rows, columns] (+)= A panel. Rows of A lie lda units apart, rows of C ldc elements.
  void (*multiply)(const uint32_t* a,
                   int64_t lda,
                   const uint32_t* panel,
                   float* c,
                   int64_t ldc,
                   int64_t rows,
                   int64_t columns,
                   int64_t units,
                   bool accumulate);
  /// Whether the calling thread keeps the set-up of its registers from one product to the next;
  /// without, each product makes and undoes it. What else uses tile registers, as LibTorch's
  /// products do, must not run meanwhile.
  void (*keep_registers)(bool keep);
};

/// Units of float32, one multiply-add each.
BRAID_DECLARE_CPU(GemmKernels gemm_of_floats())
/// For bfloat16 products: units of two that vdpbf16ps sums in float32, where the instruction set
/// has it, else float32 ones.
BRAID_DECLARE_CPU(GemmKernels gemm_of_bf16())
/// The same on tile registers (CpuIsa::kAmx); and products of float32 there, each factor split into
/// three bfloat16 and six products of them summed in float32.
namespace amx {
GemmKernels gemm_of_bf16();
GemmKernels gemm_of_split_floats();
}  // namespace amx

}  // namespace braid
