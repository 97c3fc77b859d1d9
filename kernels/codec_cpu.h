#pragma once
// The CPU driver of codec.h. T, the type of the arithmetic, is float or double.
#include <cstdint>

#include "kernels/codec.h"

namespace braid {

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

/// Of codes in one of the formats; throws Error for anything else. `codes` must outlive it.
CodeArrays<const uint8_t> code_arrays(const Codes& codes);

/// A block of such a matrix.
struct CodeBlock {
  int64_t first_row, first_column, rows, columns;
};

/// out [block.rows, block.columns]; Out is T, or Bfloat16 with T = float.
template <class T, class Out>
void decode_block_cpu(const CodeArrays<const uint8_t>& codes, const CodeBlock& block, Out* out);

/// Codes of w [rows, columns] with the scales that are there, or with scales of its own.
template <class T>
void encode_cpu(const T* w, bool own_scales, const CodeArrays<uint8_t>& codes);

/// Throws the Error about a value that has no code.
[[noreturn]] void fail_to_encode(double value, int64_t row, int64_t column);

}  // namespace braid
