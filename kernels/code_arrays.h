#pragma once
// The formats of codec.h for drivers and kernels: plain arrays, nothing of LibTorch.
#include <cstdint>

namespace braid {

/// Rows and columns that share an FP8 scale; columns that share an FP4 one.
inline constexpr int64_t kFp8Tile = 128, kFp4Group = 32;

enum class CodeFormat { kFp8, kFp4 };

/// Codes of a matrix [rows, columns] and their scales, laid out as codec.h says.
template <class Byte>
struct CodeArrays {
  CodeFormat format;
  bool float_scales;  ///< float32, else F8_E8M0
  int64_t rows, columns;
  Byte* values;
  Byte* scales;
};

/// A block of such a matrix.
struct CodeBlock {
  int64_t first_row, first_column, rows, columns;
};

}  // namespace braid
