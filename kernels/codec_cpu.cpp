#include "kernels/codec_cpu.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/sizes.h"
#include "kernels/codec.h"
#include "kernels/cpu/codec_loops.h"
#include "kernels/cpu/threads.h"

namespace braid {
namespace {

// 2^(byte - 127) of every byte; the smallest is a subnormal float.
template <class T>
const std::array<T, 256>& e8m0_values() {
  static const auto values = [] {
    std::array<T, 256> result;
    for (int byte = 0; byte < 255; ++byte) {
      result[byte] = std::ldexp(T{1}, byte - 127);
    }
    result[255] = std::numeric_limits<T>::quiet_NaN();
    return result;
  }();
  return values;
}

// `count` scales from the one with this index on.
template <class T>
void widen_scales(const CodeArrays<const uint8_t>& codes, int64_t first, int64_t count, T* out) {
  if (codes.float_scales) {
    std::copy_n(reinterpret_cast<const float*>(codes.scales) + first, count, out);
    return;
  }
  const auto& values = e8m0_values<T>();
  const uint8_t* bytes = codes.scales + first;
  std::transform(bytes, bytes + count, out, [&](uint8_t byte) { return values[byte]; });
}

void write_scale(const CodeArrays<uint8_t>& codes, int64_t index, int exponent) {
  if (codes.float_scales) {
    reinterpret_cast<float*>(codes.scales)[index] = static_cast<float>(std::ldexp(1.0, exponent));
  } else {
    codes.scales[index] = static_cast<uint8_t>(exponent + 127);
  }
}

double read_scale(const CodeArrays<uint8_t>& codes, int64_t index) {
  return codes.float_scales ? reinterpret_cast<const float*>(codes.scales)[index]
                            : e8m0_values<double>()[codes.scales[index]];
}

// The exponent of the smallest power of two with largest <= limit * 2^exponent; `fraction` in
// [1/2, 1) and `power` are limit's.
int scale_exponent(double largest, double fraction, int power) {
  if (largest == 0) {
    return 0;
  }
  int exponent = 0;
  const double mantissa = std::frexp(largest, &exponent);
  return std::max(-127, exponent - power + (mantissa > fraction ? 1 : 0));
}

template <class T>
void encode_fp8_tiles(const T* w, bool own_scales, const CodeArrays<uint8_t>& codes) {
  const int64_t rows = codes.rows, columns = codes.columns;
  const int64_t down = blocks(rows, kFp8Tile), across = blocks(columns, kFp8Tile);
  parallel_rows(down, kFp8Tile * columns, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin * across; tile < end * across; ++tile) {
      const int64_t row = tile / across * kFp8Tile, column = tile % across * kFp8Tile;
      const int64_t last_row = std::min(rows, row + kFp8Tile);
      const int64_t width = std::min(kFp8Tile, columns - column);
      if (own_scales) {
        T largest = 0;
        for (int64_t r = row; r < last_row; ++r) {
          largest =
              std::max(largest, BRAID_CPU(largest_magnitude<T>)(w + r * columns + column, width));
        }
        const int exponent = scale_exponent(static_cast<double>(largest), 0.875, 9);
        if (exponent > 127) {
          fail_to_encode(static_cast<double>(w[row * columns + column]), row, column);
        }
        write_scale(codes, tile, exponent);
      }
      const auto scale = static_cast<T>(read_scale(codes, tile));
      for (int64_t r = row; r < last_row; ++r) {
        const int64_t at = r * columns + column;
        BRAID_CPU(encode_fp8_run<T>)(w + at, scale, !own_scales, codes.values + at, width);
      }
    }
  });
}

template <class T>
void encode_fp4_groups(const T* w, bool own_scales, const CodeArrays<uint8_t>& codes) {
  parallel_rows(codes.rows * codes.columns / kFp4Group, kFp4Group, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      const T* its_values = w + group * kFp4Group;
      if (own_scales) {
        const T largest = BRAID_CPU(largest_magnitude<T>)(its_values, kFp4Group);
        const int exponent = scale_exponent(static_cast<double>(largest), 0.75, 3);
        if (exponent > 127) {
          const int64_t first = group * kFp4Group;
          fail_to_encode(
              static_cast<double>(*its_values), first / codes.columns, first % codes.columns);
        }
        write_scale(codes, group, exponent);
      }
      const auto scale = static_cast<T>(read_scale(codes, group));
      BRAID_CPU(encode_fp4_run<T>)
      (its_values, scale, !own_scales, codes.values + group * kFp4Group / 2, kFp4Group);
    }
  });
}

}  // namespace

template <class T, class Out>
void decode_block_cpu(const CodeArrays<const uint8_t>& codes, const CodeBlock& block, Out* out) {
  const bool fp8 = codes.format == CodeFormat::kFp8;
  const int64_t shared = fp8 ? kFp8Tile : kFp4Group;  // columns that share a scale
  const int64_t count = blocks(block.columns, shared), all = blocks(codes.columns, shared);
  parallel_rows(block.rows, block.columns / 8, [&](int64_t begin, int64_t end) {
    std::vector<T> scales(count);
    int64_t scale_row = -1;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t stored_row = block.first_row + row;
      if (const int64_t wanted = fp8 ? stored_row / kFp8Tile : stored_row; wanted != scale_row) {
        scale_row = wanted;
        widen_scales(codes, scale_row * all + block.first_column / shared, count, scales.data());
      }
      if (fp8) {
        BRAID_CPU(decode_fp8_row<T, Out>)
        (codes.values + stored_row * codes.columns + block.first_column,
         scales.data(),
         out + row * block.columns,
         block.columns);
      } else {
        BRAID_CPU(decode_fp4_row<T, Out>)
        (codes.values + (stored_row * codes.columns + block.first_column) / 2,
         scales.data(),
         out + row * block.columns,
         block.columns);
      }
    }
  });
}

template <class T>
void encode_cpu(const T* w, bool own_scales, const CodeArrays<uint8_t>& codes) {
  if (codes.format == CodeFormat::kFp8) {
    encode_fp8_tiles(w, own_scales, codes);
  } else {
    encode_fp4_groups(w, own_scales, codes);
  }
}

void fail_to_encode(double value, int64_t row, int64_t column) {
  fail("[codec] the value at [",
       row,
       ", ",
       column,
       "] is ",
       value,
       "; only finite values up to 2^127 times the largest code can be quantized");
}

#define BRAID_INSTANTIATE(T, Out) \
  template void decode_block_cpu<T>(const CodeArrays<const uint8_t>&, const CodeBlock&, Out*);
BRAID_INSTANTIATE(double, double)
BRAID_INSTANTIATE(float, float)
BRAID_INSTANTIATE(float, Bfloat16)
#undef BRAID_INSTANTIATE
template void encode_cpu(const double*, bool, const CodeArrays<uint8_t>&);
template void encode_cpu(const float*, bool, const CodeArrays<uint8_t>&);

}  // namespace braid
