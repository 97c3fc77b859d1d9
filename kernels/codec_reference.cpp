#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/codec.h"
#include "kernels/precision.h"

namespace braid {
namespace {

// The values of FP4 magnitude codes 0 to 7: 0, 0.5, 1, 1.5, 2, 3, 4, 6.
at::Tensor e2m1_values(const at::Tensor& code) {
  return at::where(code < 4, code * 0.5, at::where(code < 6, code - 2.0, code * 2.0 - 8));
}

// float64; E8M0 is 2^(byte - 127), NaN for 255.
at::Tensor wide_scales(const at::Tensor& scales) {
  return scales.to(at::kFloat).to(at::kDouble);
}

// One scale for each value, out of one for each block of rows x columns.
at::Tensor spread(const at::Tensor& scales, int64_t rows, int64_t columns, at::IntArrayRef sizes) {
  return scales.repeat_interleave(rows, 0)
      .narrow(0, 0, sizes[0])
      .repeat_interleave(columns, 1)
      .narrow(1, 0, sizes[1]);
}

at::Tensor spread(const at::Tensor& scales, bool fp8, at::IntArrayRef sizes) {
  return spread(scales, fp8 ? kFp8Tile : 1, fp8 ? kFp8Tile : kFp4Group, sizes);
}

at::Tensor fp4_values(const at::Tensor& codes) {
  const auto bytes = codes.view(at::kByte);
  const auto nibbles = at::stack({bytes.bitwise_and(15), bytes.div(16, "floor")}, -1).flatten(1);
  const auto magnitude = e2m1_values(nibbles.bitwise_and(7).to(at::kDouble));
  return at::where(nibbles >= 8, -magnitude, magnitude);
}

// The scale of each group: the smallest power of two with largest <= limit * 2^exponent, where
// limit = fraction * 2^power and fraction is in [1/2, 1); NaN where there is none.
at::Tensor e8m0_scales(const at::Tensor& largest, double fraction, int64_t power) {
  const auto [mantissa, binary_exponent] = at::frexp(largest);
  const auto exponent = (binary_exponent - power + (mantissa > fraction))
                            .clamp(-127, 128)
                            .masked_fill(largest == 0, 0);
  return (exponent + 127)
      .masked_fill(largest.isfinite().logical_not(), 255)
      .to(at::kByte)
      .view(at::kFloat8_e8m0fnu);
}

// y >= 0 -> the nearest magnitude code, the even one of two; y beyond the largest saturates.
at::Tensor e4m3_magnitudes(const at::Tensor& given) {
  const auto codes = at::arange(127, given.options().dtype(at::kByte));
  const auto table = codes.view(at::kFloat8_e4m3fn).to(at::kFloat).to(at::kDouble);
  const auto y = given.clamp_max(448).contiguous();
  const auto upper = at::searchsorted(table, y).clamp(0, 126);
  const auto lower = (upper - 1).clamp_min(0);
  const auto below = y - table.index({lower}), above = table.index({upper}) - y;
  const auto takes_lower = (below < above).logical_or((below == above) * (lower % 2 == 0));
  return at::where(takes_lower, lower, upper);
}

at::Tensor e2m1_magnitudes(const at::Tensor& given) {
  const auto y = given.clamp_max(6);
  const auto codes = at::arange(8, given.options());
  // Distances to the even codes get no penalty, those to the odd ones a tiny one.
  const auto distance = (y.unsqueeze(-1) - e2m1_values(codes)).abs() + codes % 2 * 1e-15;
  return distance.argmin(-1);
}

// Codes out of magnitudes and signs, of which a zero's may be kept.
at::Tensor fp8_codes(const at::Tensor& magnitude, const at::Tensor& is_negative) {
  return (magnitude + is_negative * 128).to(at::kByte).view(at::kFloat8_e4m3fn);
}
at::Tensor fp4_codes(const at::Tensor& magnitude, const at::Tensor& is_negative) {
  const auto pairs =
      (magnitude + is_negative * 8).view({magnitude.size(0), magnitude.size(1) / 2, 2});
  return (pairs.select(2, 0) + pairs.select(2, 1) * 16).to(at::kByte).view(at::kChar);
}

}  // namespace

at::Tensor decode_reference(const Codes& codes, at::ScalarType type) {
  const bool fp8 = codes.values.scalar_type() == at::kFloat8_e4m3fn;
  const auto values = fp8 ? codes.values.to(at::kFloat).to(at::kDouble) : fp4_values(codes.values);
  const auto product = values * spread(wide_scales(codes.scales), fp8, values.sizes());
  return type == at::kDouble ? product : product.to(at::kFloat).to(type);
}

Codes encode_fp8_reference(const at::Tensor& w, at::ScalarType scale_type) {
  const int64_t down = blocks(w.size(0), kFp8Tile), across = blocks(w.size(1), kFp8Tile);
  const auto wide = w.to(at::kDouble);
  auto padded = at::zeros({down * kFp8Tile, across * kFp8Tile}, wide.options());
  padded.narrow(0, 0, w.size(0)).narrow(1, 0, w.size(1)).copy_(wide);
  const auto largest = padded.view({down, kFp8Tile, across, kFp8Tile}).abs().amax({1, 3});
  const auto scales = e8m0_scales(largest, 0.875, 9);  // 448 = 0.875 * 2^9
  const auto y = wide / spread(wide_scales(scales), /*fp8=*/true, w.sizes());
  const auto magnitude = e4m3_magnitudes(y.abs());
  return {fp8_codes(magnitude, (y < 0).logical_and(magnitude > 0)), scales.to(scale_type)};
}

Codes encode_fp4_reference(const at::Tensor& w) {
  const auto wide = w.to(at::kDouble);
  const auto largest = wide.reshape({w.size(0), w.size(1) / kFp4Group, kFp4Group}).abs().amax(2);
  const auto scales = e8m0_scales(largest, 0.75, 3);  // 6 = 0.75 * 2^3
  const auto y = wide / spread(wide_scales(scales), /*fp8=*/false, w.sizes());
  const auto magnitude = e2m1_magnitudes(y.abs());
  return {fp4_codes(magnitude, (y < 0).logical_and(magnitude > 0)), scales};
}

Codes encode_like_reference(const at::Tensor& w, const Codes& stored) {
  const bool fp8 = stored.values.scalar_type() == at::kFloat8_e4m3fn;
  // A float32 scale need not be a power of two: the division is rounded as w's arithmetic is.
  const auto wide = widened(w);
  const auto scales = spread(wide_scales(stored.scales), fp8, w.sizes()).to(wide.scalar_type());
  const auto y = (wide.abs() / scales).to(at::kDouble);
  const auto is_negative = wide.signbit();
  const auto values =
      fp8 ? fp8_codes(e4m3_magnitudes(y), is_negative) : fp4_codes(e2m1_magnitudes(y), is_negative);
  return {fp8 ? values : values.view(stored.values.scalar_type()), stored.scales.clone()};
}

}  // namespace braid
