#include "kernels/codec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/codec_loops.h"

namespace braid {
namespace {

bool is_fp8(const Codes& codes) {
  return codes.values.scalar_type() == at::kFloat8_e4m3fn;
}

void require_format(const Codes& codes) {
  const auto &values = codes.values, &scales = codes.scales;
  const auto type = values.scalar_type();
  require(type == at::kFloat8_e4m3fn || type == at::kChar || type == at::kByte,
          "[codec] codes are ",
          type,
          ", expected Float8_e4m3fn (FP8), or Char or Byte (FP4)");
  const bool fp8 = is_fp8(codes);
  require(
      scales.scalar_type() == at::kFloat8_e8m0fnu || (fp8 && scales.scalar_type() == at::kFloat),
      "[codec] scales are ",
      scales.scalar_type(),
      ", expected Float8_e8m0fnu",
      fp8 ? " or Float" : "");
  require(values.dim() == 2 && (fp8 || columns_of(codes) % kFp4Group == 0),
          "[codec] codes ",
          values.sizes(),
          " are no matrix",
          fp8 ? "" : " of groups of 32 inputs");
  const std::vector<int64_t> expected = {
      fp8 ? blocks(values.size(0), kFp8Tile) : values.size(0),
      fp8 ? blocks(values.size(1), kFp8Tile) : values.size(1) * 2 / kFp4Group};
  require(scales.sizes() == at::IntArrayRef(expected),
          "[codec] codes ",
          values.sizes(),
          " have scales ",
          scales.sizes(),
          ", expected ",
          at::IntArrayRef(expected));
  require(values.is_contiguous() && scales.is_contiguous(),
          "[codec] codes and scales must be contiguous");
}

const uint8_t* bytes_of(const at::Tensor& tensor) {
  return static_cast<const uint8_t*>(tensor.const_data_ptr());
}

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

/// count scales of one row of scales.
template <class T>
void widen_scales(const at::Tensor& scales, int64_t row, int64_t first, int64_t count, T* out) {
  const int64_t begin = row * scales.size(1) + first;
  if (scales.scalar_type() == at::kFloat) {
    std::copy_n(scales.const_data_ptr<float>() + begin, count, out);
    return;
  }
  const auto& values = e8m0_values<T>();
  const uint8_t* bytes = bytes_of(scales) + begin;
  std::transform(bytes, bytes + count, out, [&](uint8_t byte) { return values[byte]; });
}

template <class T, class Out>
void decode_rows(const Codes& codes,
                 int64_t first_row,
                 int64_t first_column,
                 Out* out,
                 int64_t rows,
                 int64_t columns) {
  const bool fp8 = is_fp8(codes);
  const int64_t shared = fp8 ? kFp8Tile : kFp4Group, count = blocks(columns, shared);
  parallel_rows(rows, columns / 8, [&](int64_t begin, int64_t end) {
    std::vector<T> scales(count);
    int64_t scale_row = -1;
    for (int64_t row = begin; row < end; ++row) {
      const int64_t stored_row = first_row + row;
      if (const int64_t wanted = fp8 ? stored_row / kFp8Tile : stored_row; wanted != scale_row) {
        scale_row = wanted;
        widen_scales(codes.scales, scale_row, first_column / shared, count, scales.data());
      }
      const uint8_t* row_bytes = bytes_of(codes.values) + stored_row * codes.values.size(1);
      if (fp8) {
        BRAID_CPU(decode_fp8_row<T, Out>)
        (row_bytes + first_column, scales.data(), out + row * columns, columns);
      } else {
        BRAID_CPU(decode_fp4_row<T, Out>)
        (row_bytes + first_column / 2, scales.data(), out + row * columns, columns);
      }
    }
  });
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

[[noreturn]] void fail_at(const at::Tensor& w, int64_t row, int64_t column) {
  fail("[codec] the value at [",
       row,
       ", ",
       column,
       "] is ",
       w[row][column].item<double>(),
       "; only finite values up to 2^127 times the largest code can be quantized");
}

void require_encodable(const at::Tensor& w) {
  require(w.dim() == 2, "[codec] cannot quantize a tensor of shape ", w.sizes(), ": not a matrix");
  const auto good = w.isfinite();
  if (!good.all().item<bool>()) {
    const auto place = good.logical_not().nonzero()[0];
    fail_at(w, place[0].item<int64_t>(), place[1].item<int64_t>());
  }
}

// In the type of the arithmetic.
at::Tensor encodable(const at::Tensor& w) {
  require_encodable(w);
  return w.to(w.scalar_type() == at::kDouble ? at::kDouble : at::kFloat).contiguous();
}

void write_scale(at::Tensor& scales, int64_t index, int exponent) {
  if (scales.scalar_type() == at::kFloat) {
    scales.data_ptr<float>()[index] = static_cast<float>(std::ldexp(1.0, exponent));
  } else {
    static_cast<uint8_t*>(scales.mutable_data_ptr())[index] = static_cast<uint8_t>(exponent + 127);
  }
}

double read_scale(const at::Tensor& scales, int64_t index) {
  return scales.scalar_type() == at::kFloat ? scales.const_data_ptr<float>()[index]
                                            : e8m0_values<double>()[bytes_of(scales)[index]];
}

// Codes of `w` with the scales that are there, or with scales of its own.
template <class T>
void encode_fp8_tiles(const at::Tensor& w, bool own_scales, Codes& codes) {
  const int64_t rows = w.size(0), columns = w.size(1), across = codes.scales.size(1);
  const T* values = w.const_data_ptr<T>();
  auto* bytes = static_cast<uint8_t*>(codes.values.mutable_data_ptr());
  parallel_rows(codes.scales.size(0), kFp8Tile * columns, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin * across; tile < end * across; ++tile) {
      const int64_t row = tile / across * kFp8Tile, column = tile % across * kFp8Tile;
      const int64_t last_row = std::min(rows, row + kFp8Tile);
      const int64_t width = std::min(kFp8Tile, columns - column);
      if (own_scales) {
        T largest = 0;
        for (int64_t r = row; r < last_row; ++r) {
          largest = std::max(largest,
                             BRAID_CPU(largest_magnitude<T>)(values + r * columns + column, width));
        }
        const int exponent = scale_exponent(static_cast<double>(largest), 0.875, 9);
        if (exponent > 127) {
          fail_at(w, row, column);
        }
        write_scale(codes.scales, tile, exponent);
      }
      const auto scale = static_cast<T>(read_scale(codes.scales, tile));
      for (int64_t r = row; r < last_row; ++r) {
        const int64_t at = r * columns + column;
        BRAID_CPU(encode_fp8_run<T>)(values + at, scale, !own_scales, bytes + at, width);
      }
    }
  });
}

template <class T>
void encode_fp4_groups(const at::Tensor& w, bool own_scales, Codes& codes) {
  const T* values = w.const_data_ptr<T>();
  auto* bytes = static_cast<uint8_t*>(codes.values.mutable_data_ptr());
  parallel_rows(codes.scales.numel(), kFp4Group, [&](int64_t begin, int64_t end) {
    for (int64_t group = begin; group < end; ++group) {
      const T* its_values = values + group * kFp4Group;
      if (own_scales) {
        const T largest = BRAID_CPU(largest_magnitude<T>)(its_values, kFp4Group);
        const int exponent = scale_exponent(static_cast<double>(largest), 0.75, 3);
        if (exponent > 127) {
          fail_at(w, group * kFp4Group / w.size(1), group * kFp4Group % w.size(1));
        }
        write_scale(codes.scales, group, exponent);
      }
      const auto scale = static_cast<T>(read_scale(codes.scales, group));
      BRAID_CPU(encode_fp4_run<T>)
      (its_values, scale, !own_scales, bytes + group * kFp4Group / 2, kFp4Group);
    }
  });
}

void encode_into(const at::Tensor& given, bool own_scales, Codes& codes) {
  const auto w = encodable(given);
  with_wide_type(w.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    if (is_fp8(codes)) {
      encode_fp8_tiles<T>(w, own_scales, codes);
    } else {
      encode_fp4_groups<T>(w, own_scales, codes);
    }
  });
}

}  // namespace

int64_t rows_of(const Codes& codes) {
  return codes.values.size(0);
}

int64_t columns_of(const Codes& codes) {
  return codes.values.size(1) * (is_fp8(codes) ? 1 : 2);
}

at::Tensor decode(const Codes& codes, at::ScalarType type) {
  auto out = at::empty({rows_of(codes), columns_of(codes)}, type);
  decode_block(codes, 0, 0, out);
  return out;
}

void decode_block(const Codes& codes, int64_t first_row, int64_t first_column, at::Tensor& out) {
  require_format(codes);
  require(out.dim() == 2 && out.is_contiguous(), "[codec] the block must be a contiguous matrix");
  const int64_t rows = out.size(0), columns = out.size(1);
  require(first_row >= 0 && first_column >= 0 && first_row + rows <= rows_of(codes) &&
              first_column + columns <= columns_of(codes),
          "[codec] the block [",
          first_row,
          ", ",
          first_column,
          "] + ",
          out.sizes(),
          " is not within ",
          rows_of(codes),
          " x ",
          columns_of(codes));
  const int64_t shared = is_fp8(codes) ? kFp8Tile : kFp4Group;
  require(first_column % shared == 0 && (is_fp8(codes) || columns % shared == 0),
          "[codec] a block begins and ends where scales do, every ",
          shared,
          " columns");
  switch (out.scalar_type()) {
    case at::kFloat:
      return decode_rows<float>(
          codes, first_row, first_column, out.data_ptr<float>(), rows, columns);
    case at::kDouble:
      return decode_rows<double>(
          codes, first_row, first_column, out.data_ptr<double>(), rows, columns);
    case at::kBFloat16:
      return decode_rows<float>(codes,
                                first_row,
                                first_column,
                                static_cast<Bfloat16*>(out.mutable_data_ptr()),
                                rows,
                                columns);
    default:
      fail("[codec] cannot decode to ", out.scalar_type());
  }
}

Codes encode_fp8(const at::Tensor& w, at::ScalarType scale_type) {
  require_encodable(w);
  Codes codes{at::empty(w.sizes(), at::kFloat8_e4m3fn),
              at::empty({blocks(w.size(0), kFp8Tile), blocks(w.size(1), kFp8Tile)}, scale_type)};
  require_format(codes);
  encode_into(w, /*own_scales=*/true, codes);
  return codes;
}

Codes encode_fp4(const at::Tensor& w) {
  require_encodable(w);
  require(w.size(1) % kFp4Group == 0,
          "[codec] ",
          w.sizes(),
          " cannot become FP4: ",
          w.size(1),
          " inputs are not a multiple of ",
          kFp4Group);
  Codes codes{at::empty({w.size(0), w.size(1) / 2}, at::kChar),
              at::empty({w.size(0), w.size(1) / kFp4Group}, at::kFloat8_e8m0fnu)};
  encode_into(w, /*own_scales=*/true, codes);
  return codes;
}

Codes encode_like(const at::Tensor& w, const Codes& stored) {
  require_format(stored);
  require(w.dim() == 2 && w.size(0) == rows_of(stored) && w.size(1) == columns_of(stored),
          "[codec] values ",
          w.sizes(),
          " do not fit scales for ",
          rows_of(stored),
          " x ",
          columns_of(stored));
  Codes codes{at::empty_like(stored.values), stored.scales.clone()};
  encode_into(w, /*own_scales=*/false, codes);
  return codes;
}

}  // namespace braid
