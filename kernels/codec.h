#pragma once
// The number formats of published weights (docs/equations.md (51) to (54)).
//   FP8: F8_E4M3 [out, in]; one scale for a tile of 128 x 128, [ceil(out / 128), ceil(in / 128)],
//        F8_E8M0 (2^(byte - 127), 255 = NaN) or F32.
//   FP4: E2M1, two codes to a byte, I8 or U8 [out, in / 2], the even input in the low half; one
//        F8_E8M0 scale for 32 inputs of a row, [out, in / 32].
#include <ATen/core/Tensor.h>

#include "kernels/code_arrays.h"

namespace braid {

/// A matrix in one of the formats, told apart by the dtype of `values`.
struct Codes {
  at::Tensor values, scales;
};

/// The rows and columns that the codes stand for.
int64_t rows_of(const Codes& codes);
int64_t columns_of(const Codes& codes);

/// Code times scale: exact where float64 is asked for, rounded once for float32 (subnormals kept,
/// overflow to infinity), and rounded once more from float32 for bfloat16.
/// Throws Error for dtypes or shapes that are neither format.
at::Tensor decode(const Codes& codes, at::ScalarType type = at::kFloat);

/// Decodes the block at [first_row, first_column] into `out` [rows, columns], contiguous float32,
/// bfloat16 or float64. first_column is a multiple of the columns that share a scale.
void decode_block(const Codes& codes, int64_t first_row, int64_t first_column, at::Tensor& out);

/// w [out, in], float32, float64 or bfloat16, rounded to the format: each scale the smallest power
/// of two by which the group's largest magnitude becomes at most 448 (FP8) or 6 (FP4), 1 where all
/// are zero; the nearest code, ties to the even one; a zero without sign. Throws Error naming the
/// place of a value that is not finite or has no scale; on a device, which would have to be waited
/// for, and in plain LibTorch, the scale of such a value's group is NaN instead.
Codes encode_fp8(const at::Tensor& w, at::ScalarType scale_type);
Codes encode_fp4(const at::Tensor& w);

/// The same with the scales of `stored`, in its format: values beyond the largest code saturate,
/// zeros keep their sign. What decode() gave becomes the stored codes again, bit for bit, where
/// scales are finite powers of two and the values normal numbers.
Codes encode_like(const at::Tensor& w, const Codes& stored);

/// The same in plain LibTorch.
at::Tensor decode_reference(const Codes& codes, at::ScalarType type = at::kFloat);
Codes encode_fp8_reference(const at::Tensor& w, at::ScalarType scale_type);
Codes encode_fp4_reference(const at::Tensor& w);
Codes encode_like_reference(const at::Tensor& w, const Codes& stored);

}  // namespace braid
