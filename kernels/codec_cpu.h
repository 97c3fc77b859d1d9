#pragma once
// The CPU driver of codec.h. T, the type of the arithmetic, is float or double.
#include <cstdint>

#include "kernels/code_arrays.h"
#include "kernels/codec.h"

namespace braid {

/// Of codes in one of the formats; throws Error for anything else. `codes` must outlive it.
CodeArrays<const uint8_t> code_arrays(const Codes& codes);

/// out [block.rows, block.columns]; Out is T, or Bfloat16 with T = float.
template <class T, class Out>
void decode_block_cpu(const CodeArrays<const uint8_t>& codes, const CodeBlock& block, Out* out);

/// Codes of w [rows, columns] with the scales that are there, or with scales of its own.
template <class T>
void encode_cpu(const T* w, bool own_scales, const CodeArrays<uint8_t>& codes);

/// Throws the Error about a value that has no code.
[[noreturn]] void fail_to_encode(double value, int64_t row, int64_t column);

}  // namespace braid
