// Codes of FP8 and FP4 matrices become numbers. A thread has eight columns of a row.
#include "kernels/cuda/code_values.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/tables.h"

namespace braid::cuda {
namespace {

constexpr int kThreads = 256;

using Codes = CodeArrays<const uint8_t>;

// Codes [begin, begin + 8) of a row of the block, two FP4 codes to a byte, as bits one behind the
// other. kWhole: the addresses of these bytes are multiples of their number.
template <int kBits, bool kWhole>
__device__ uint64_t codes_of_piece(const Codes& codes, int64_t row, int64_t column, int64_t count) {
  constexpr int kBytes = kBits;  // of eight codes
  const uint8_t* from = codes.values + (row * codes.columns + column) * kBits / 8;
  if constexpr (kWhole) {
    if constexpr (kBytes == 8) {
      return *reinterpret_cast<const uint64_t*>(from);
    } else {
      return *reinterpret_cast<const uint32_t*>(from);
    }
  }
  uint64_t bits = 0;
  for (int i = 0; i < kBytes && i < count * kBits / 8; ++i) {
    bits |= static_cast<uint64_t>(from[i]) << (8 * i);
  }
  return bits;
}

// One scale for 128 x 128 FP8 codes, or 32 FP4 codes of a row; a piece has one.
template <int kBits>
__device__ float scale_of_piece(const Codes& codes, int64_t row, int64_t column) {
  const int64_t at =
      kBits == 8 ? row / kFp8Tile * ((codes.columns + kFp8Tile - 1) / kFp8Tile) + column / kFp8Tile
                 : row * (codes.columns / kFp4Group) + column / kFp4Group;
  return codes.float_scales ? reinterpret_cast<const float*>(codes.scales)[at]
                            : e8m0_value(codes.scales[at]);
}

template <int kBits, bool kWhole, class E>
__global__ void __launch_bounds__(kThreads)
    decode_kernel(Codes codes, CodeBlock block, int64_t pieces_of_row, E* out) {
  const int64_t piece = int64_t{blockIdx.x} * kThreads + thread_index();
  const int64_t row = piece / pieces_of_row, column = piece % pieces_of_row * kPiece;
  if (row >= block.rows) {
    return;
  }
  const int64_t code_row = block.first_row + row, code_column = block.first_column + column;
  const uint64_t bits =
      codes_of_piece<kBits, kWhole>(codes, code_row, code_column, block.columns - column);
  const float scale = scale_of_piece<kBits>(codes, code_row, code_column);
  float values[kPiece];
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    const auto code = static_cast<uint32_t>(bits >> (kBits * i));
    values[i] = (kBits == 8 ? e4m3_value(code) : e2m1_value(code)) * scale;
  }
  store<kWhole>(values, out + row * block.columns, column, block.columns);
}

template <int kBits, class E>
void decode(const Codes& codes, const CodeBlock& block, E* out, void* stream) {
  const int64_t pieces_of_row = (block.columns + kPiece - 1) / kPiece;
  const bool whole = are_whole(block.columns, out) && codes.columns % kPiece == 0 &&
                     reinterpret_cast<uintptr_t>(codes.values) % kBits == 0;
  launch(whole ? decode_kernel<kBits, true, E> : decode_kernel<kBits, false, E>,
         blocks_of(block.rows * pieces_of_row, kThreads),
         kThreads,
         stream,
         codes,
         block,
         pieces_of_row,
         out);
}

template <class E>
void decode_block(const Codes& codes, const CodeBlock& block, E* out, void* stream) {
  codes.format == CodeFormat::kFp8 ? decode<8>(codes, block, out, stream)
                                   : decode<4>(codes, block, out, stream);
}

}  // namespace

void add_codec(CudaKernels& table) {
  table.float32.decode_block = decode_block<float>;
  table.bfloat16.decode_block = decode_block<Bfloat16>;
}

}  // namespace braid::cuda
