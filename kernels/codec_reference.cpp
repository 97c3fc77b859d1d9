#include <vector>

#include <ATen/ATen.h>

#include "kernels/codec.h"

namespace braid {
namespace {

const std::vector<double> kE2m1 = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

// float64, 2^(byte - 127), NaN for 255.
at::Tensor wide_scales(const at::Tensor& scales) {
  if (scales.scalar_type() == at::kFloat) {
    return scales.to(at::kDouble);
  }
  const auto bytes = scales.view(at::kByte).to(at::kDouble);
  return at::exp2(bytes - 127).masked_fill(bytes == 255, std::numeric_limits<double>::quiet_NaN());
}

// One scale for each value, out of one for each block of rows x columns.
at::Tensor spread(const at::Tensor& scales, int64_t rows, int64_t columns, at::IntArrayRef sizes) {
  return scales.repeat_interleave(rows, 0)
      .narrow(0, 0, sizes[0])
      .repeat_interleave(columns, 1)
      .narrow(1, 0, sizes[1]);
}

at::Tensor fp4_values(const at::Tensor& codes) {
  const auto bytes = codes.view(at::kByte);
  const auto nibbles = at::stack({bytes.bitwise_and(15), bytes.div(16, "floor")}, -1).flatten(1);
  const auto magnitude =
      at::tensor(kE2m1, at::kDouble).index({nibbles.bitwise_and(7).to(at::kLong)});
  return at::where(nibbles >= 8, -magnitude, magnitude);
}

// The exponent of each scale: the smallest with largest <= limit * 2^exponent.
at::Tensor exponents(const at::Tensor& largest, double limit) {
  auto exponent = at::full_like(largest, -127);
  for (int k = -127; k < 127; ++k) {
    exponent = at::where(largest > limit * std::exp2(k), k + 1.0, exponent);
  }
  return exponent.masked_fill(largest == 0, 0);
}

at::Tensor e8m0(const at::Tensor& exponent) {
  return (exponent + 127).to(at::kByte).view(at::kFloat8_e8m0fnu);
}

}  // namespace

at::Tensor decode_reference(const Codes& codes, at::ScalarType type) {
  const bool fp8 = codes.values.scalar_type() == at::kFloat8_e4m3fn;
  const auto values = fp8 ? codes.values.to(at::kFloat).to(at::kDouble) : fp4_values(codes.values);
  const auto scales = wide_scales(codes.scales);
  const auto product = values * (fp8 ? spread(scales, kFp8Tile, kFp8Tile, values.sizes())
                                     : spread(scales, 1, kFp4Group, values.sizes()));
  return type == at::kDouble ? product : product.to(at::kFloat).to(type);
}

Codes encode_fp8_reference(const at::Tensor& w, at::ScalarType scale_type) {
  const int64_t down = (w.size(0) + kFp8Tile - 1) / kFp8Tile,
                across = (w.size(1) + kFp8Tile - 1) / kFp8Tile;
  const auto wide = w.to(at::kDouble);
  auto padded = at::zeros({down * kFp8Tile, across * kFp8Tile}, at::kDouble);
  padded.narrow(0, 0, w.size(0)).narrow(1, 0, w.size(1)).copy_(wide);
  const auto exponent =
      exponents(padded.view({down, kFp8Tile, across, kFp8Tile}).abs().amax({1, 3}), 448);
  const auto y = wide / spread(at::exp2(exponent), kFp8Tile, kFp8Tile, w.sizes());
  // From float64 by the nearest of all finite codes, the even one of two.
  const auto codes = at::arange(127, at::kByte);
  const auto table = codes.view(at::kFloat8_e4m3fn).to(at::kFloat).to(at::kDouble);
  const auto upper = at::searchsorted(table, y.abs().contiguous()).clamp(0, 126);
  const auto lower = (upper - 1).clamp_min(0);
  const auto below = y.abs() - table.index({lower}), above = table.index({upper}) - y.abs();
  const auto takes_lower = (below < above).logical_or((below == above) * (lower % 2 == 0));
  const auto magnitude = at::where(takes_lower, lower, upper);
  const auto negative = (y < 0).logical_and(magnitude > 0);
  return {(magnitude + negative * 128).to(at::kByte).view(at::kFloat8_e4m3fn),
          scale_type == at::kFloat ? at::exp2(exponent).to(at::kFloat) : e8m0(exponent)};
}

Codes encode_fp4_reference(const at::Tensor& w) {
  const auto wide = w.to(at::kDouble);
  const auto exponent = exponents(wide.view({w.size(0), -1, kFp4Group}).abs().amax(2), 6);
  const auto y = wide / spread(at::exp2(exponent), 1, kFp4Group, w.sizes());
  const auto table = at::tensor(kE2m1, at::kDouble);
  // Distances to the even codes get no penalty, those to the odd ones a tiny one.
  const auto distance = (y.abs().unsqueeze(-1) - table).abs() + at::arange(8) % 2 * 1e-15;
  const auto magnitude = distance.argmin(-1);
  const auto code = magnitude + (y < 0).logical_and(magnitude > 0) * 8;
  const auto pairs = code.view({w.size(0), -1, 2});
  return {(pairs.select(2, 0) + pairs.select(2, 1) * 16).to(at::kByte).view(at::kChar),
          e8m0(exponent)};
}

}  // namespace braid
