#include "kernels/codec.h"

#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/devices.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         a.contiguous().view(at::kByte).equal(b.contiguous().view(at::kByte));
}

// NaN of any payload equals NaN.
bool same_values(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         at::where(a.isnan(), b.isnan(), a == b).all().item<bool>() &&
         at::where(a.isnan(), true, a.signbit() == b.signbit()).all().item<bool>();
}

Codes any_fp8(int64_t rows, int64_t columns) {
  return {at::randint(256, {rows, columns}, at::kByte).view(at::kFloat8_e4m3fn),
          at::randint(256, {(rows + 127) / 128, (columns + 127) / 128}, at::kByte)
              .view(at::kFloat8_e8m0fnu)};
}

Codes any_fp4(int64_t rows, int64_t columns) {
  return {at::randint(256, {rows, columns / 2}, at::kByte).view(at::kChar),
          at::randint(256, {rows, columns / 32}, at::kByte).view(at::kFloat8_e8m0fnu)};
}

Codes on(at::Device device, const Codes& codes) {
  return {codes.values.to(device), codes.scales.to(device)};
}

bool same_codes(const Codes& a, const Codes& b) {
  return same_bits(a.values.cpu(), b.values.cpu()) && same_bits(a.scales.cpu(), b.scales.cpu());
}

std::vector<Codes> any_codes() {
  at::manual_seed(1);
  auto base = any_fp8(200, 150);
  base.scales = at::randn({2, 2});
  return {any_fp8(300, 517), any_fp8(1, 1), base, any_fp4(37, 320), any_fp4(1, 32)};
}

TEST(Decode, EqualsTheReferenceForAllCodesAndScales) {
  auto all = any_codes();
  const auto bytes = at::arange(256, at::kByte);
  const auto scales = bytes.view(at::kFloat8_e8m0fnu);
  all.push_back(
      {bytes.repeat({256, 1}).view(at::kChar), scales.unsqueeze(1).expand({256, 16}).contiguous()});
  all.push_back(
      {bytes.repeat({129, 1}).view(at::kFloat8_e4m3fn), scales.slice(0, 0, 4).view({2, 2})});
  for (const auto& codes : all) {
    for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      const auto expected = decode_reference(codes, type);
      for (const auto device : testing::devices()) {
        EXPECT_TRUE(same_values(decode(on(device, codes), type).cpu(), expected))
            << codes.values.sizes() << " to " << type << " on " << device;
      }
      for (const std::uint64_t order : {0, 1, 2}) {
        const testing::KernelsOnHost kernels(order);
        EXPECT_TRUE(same_values(decode(on(testing::strict_device(), codes), type).cpu(), expected))
            << codes.values.sizes() << " to " << type << " by kernels/cuda";
        EXPECT_EQ(kernels.launches(), type == at::kDouble ? 0 : 1);
      }
    }
  }
}

TEST(Decode, OfABlockIsThatPartOfTheWhole) {
  const auto fp8 = any_fp8(300, 517), fp4 = any_fp4(37, 320);
  const auto check = [&](at::Device device) {
    const auto blocks_are_parts =
        [&](const Codes& codes, int64_t row, int64_t column, at::IntArrayRef sizes) {
          auto block = at::empty(sizes, at::TensorOptions(device).dtype(at::kFloat));
          decode_block(on(device, codes), row, column, block);
          EXPECT_TRUE(same_values(
              block.cpu(), decode(codes).narrow(0, row, sizes[0]).narrow(1, column, sizes[1])));
        };
    blocks_are_parts(fp8, 77, 256, {140, 261});
    blocks_are_parts(fp8, 77, 256, {140, 64});
    blocks_are_parts(fp4, 31, 160, {5, 64});
  };
  check(at::kCPU);
  const testing::KernelsOnHost kernels;
  check(testing::strict_device());
  EXPECT_EQ(kernels.launches(), 3);
}

TEST(Decode, RefusesWhatIsNeitherFormat) {
  const auto message = [](const Codes& codes) { return testing::error_of([&] { decode(codes); }); };
  auto codes = any_fp8(130, 64);
  codes.scales = codes.scales.narrow(0, 0, 1);
  EXPECT_NE(message(codes).find("expected [2, 1]"), std::string::npos) << message(codes);
  codes = any_fp4(4, 64);
  codes.scales = at::ones({4, 2});
  EXPECT_NE(message(codes).find("expected Float8_e8m0fnu"), std::string::npos) << message(codes);
  codes = {at::ones({2, 2}), at::ones({1, 1})};
  EXPECT_NE(message(codes).find("codes are Float"), std::string::npos) << message(codes);
  auto block = at::empty({4, 32});
  EXPECT_NE(testing::error_of([&] {
              decode_block(any_fp4(4, 64), 0, 16, block);
            }).find("where scales do"),
            std::string::npos);
  EXPECT_NE(testing::error_of([&] {
              decode_block(any_fp4(4, 64), 1, 0, block);
            }).find("is not within 4 x 64"),
            std::string::npos);
}

// Normal values of many magnitudes, zeros, groups of zeros and subnormal numbers.
at::Tensor values(int64_t rows, int64_t columns, at::ScalarType type) {
  auto w = at::randn({rows, columns}, at::kDouble) *
           at::exp2(at::randint(-40, 40, {rows, 1}, at::kDouble));
  w.masked_fill_(at::rand({rows, columns}) < 0.05, 0.0);
  w.narrow(0, 0, 1).zero_();
  if (rows > 2) {
    w.narrow(0, 2, 1).mul_(1e-30).mul_(1e-12);
  }
  return w.to(type);
}

TEST(Encode, EqualsTheReference) {
  at::manual_seed(2);
  for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    for (const auto device : testing::devices()) {
      SCOPED_TRACE(text(type, " on ", device));
      for (const auto& w : {values(300, 517, type), values(1, 1, type)}) {
        for (const auto scale_type : {at::kFloat8_e8m0fnu, at::kFloat}) {
          EXPECT_TRUE(same_codes(encode_fp8(w.to(device), scale_type),
                                 encode_fp8_reference(w, scale_type)));
        }
      }
      const auto w = values(40, 96, type);
      EXPECT_TRUE(same_codes(encode_fp4(w.to(device)), encode_fp4_reference(w)));
    }
  }
}

// Whoever looked for them on another device would wait for it.
TEST(Encode, InPlainLibTorchGivesNanForTheGroupsOfValuesThatAreNotFinite) {
  auto w = at::ones({3, 256});
  w[1][40] = std::numeric_limits<double>::infinity();
  w[2][200] = std::numeric_limits<double>::quiet_NaN();
  const auto fp4 = decode_reference(encode_fp4_reference(w)).isnan();
  EXPECT_TRUE(fp4[1].narrow(0, 32, 32).all().item<bool>());
  EXPECT_TRUE(fp4[2].narrow(0, 192, 32).all().item<bool>());
  EXPECT_EQ(fp4.sum().item<int64_t>(), 64);
  const auto fp8 = decode_reference(encode_fp8_reference(w, at::kFloat)).isnan();
  EXPECT_TRUE(fp8.all().item<bool>());  // one tile with each
}

TEST(EncodeFp4, RoundsTiesToTheEvenCode) {
  const std::vector<double> tied = {.25, .75, 1.25, 1.75, 2.5, 3.5, 5},
                            rounded = {0, 1, 1, 2, 2, 4, 4};
  auto w = at::zeros({1, 32}), expected = at::zeros({1, 32});
  w[0][31] = expected[0][31] = 6;  // scale 1
  for (std::size_t i = 0; i < tied.size(); ++i) {
    const auto at = static_cast<int64_t>(2 * i);
    w[0][at] = tied[i];
    w[0][at + 1] = -tied[i];
    expected[0][at] = rounded[i];
    expected[0][at + 1] = -rounded[i];
  }
  const auto codes = encode_fp4(w);
  EXPECT_EQ(codes.scales.view(at::kByte).item<int64_t>(), 127);
  EXPECT_TRUE(decode(codes).equal(expected)) << decode(codes);
  EXPECT_EQ(codes.values.view(at::kByte)[0][0].item<int64_t>(), 0) << "zeros have no sign";
}

TEST(EncodeFp8, RoundsTiesToTheEvenCodeAmongSubnormalsToo) {
  auto w = at::zeros({1, 8});
  const std::vector<double>
      given = {448, 1.0625, 1.1875, -1.0625, 0.5 / 512, 1.5 / 512, 2.5 / 512, 7.5 / 512},
      rounded = {448, 1, 1.25, -1, 0, 2. / 512, 2. / 512, 8. / 512};
  for (int64_t i = 0; i < 8; ++i) {
    w[0][i] = given[i];
  }
  const auto codes = encode_fp8(w, at::kFloat8_e8m0fnu);
  EXPECT_EQ(codes.scales.view(at::kByte).item<int64_t>(), 127);
  EXPECT_TRUE(decode(codes).equal(at::tensor(rounded).view({1, 8}).to(at::kFloat)))
      << decode(codes);
}

TEST(Encode, OfZerosHasTheScaleOne) {
  EXPECT_EQ(encode_fp4(at::zeros({1, 32})).scales.view(at::kByte).item<int64_t>(), 127);
  EXPECT_EQ(encode_fp8(at::zeros({1, 1}), at::kFloat).scales.item<float>(), 1);
}

TEST(Encode, TakesTheSmallestScaleThatHoldsTheLargestValue) {
  for (const auto& [largest, byte] : {std::pair{6.0, 127}, {6.0000005, 128}, {3.0, 126}}) {
    EXPECT_EQ(encode_fp4(at::full({1, 32}, largest)).scales.view(at::kByte).item<int64_t>(), byte);
  }
  const auto scale = [](double largest) {
    return encode_fp8(at::full({1, 1}, largest), at::kFloat).scales.item<float>();
  };
  EXPECT_EQ(scale(448), 1);
  EXPECT_EQ(scale(448.0001), 2);
  EXPECT_EQ(scale(224), 0.5);
}

TEST(Encode, RefusesValuesThatAreNotFiniteAndSaysWhere) {
  auto w = at::zeros({3, 64});
  w[2][33] = std::numeric_limits<double>::infinity();
  for (const auto& message : {testing::error_of([&] { encode_fp4(w); }),
                              testing::error_of([&] { encode_fp8(w, at::kFloat); })}) {
    EXPECT_NE(message.find("[2, 33] is inf"), std::string::npos) << message;
  }
  EXPECT_NE(testing::error_of([] {
              encode_fp4(at::zeros({2, 48}));
            }).find("multiple of 32"),
            std::string::npos);
}

TEST(EncodeLike, GivesStoredCodesAgainNegativeZerosIncluded) {
  at::manual_seed(4);
  auto fp8 = encode_fp8(at::randn({130, 140}), at::kFloat8_e8m0fnu);
  auto fp4 = encode_fp4(at::randn({9, 64}));
  fp8.scales.view(at::kByte).add_(1);  // scales that a fresh encoding would not choose
  fp4.scales.view(at::kByte).add_(1);
  fp8.values.view(at::kByte)[3][5] = 0x80;
  fp4.values.view(at::kByte)[3][5] = 0x88;
  for (const auto& stored : {fp8, fp4}) {
    for (const auto device : testing::devices()) {
      EXPECT_TRUE(same_codes(encode_like(decode(stored).to(device), on(device, stored)), stored))
          << device;
    }
  }
}

TEST(EncodeLike, EqualsTheReferenceForAnyScales) {
  at::manual_seed(5);
  auto fp8 = encode_fp8(values(300, 517, at::kFloat), at::kFloat8_e8m0fnu);
  auto with_float_scales = encode_fp8(values(130, 140, at::kFloat), at::kFloat);
  with_float_scales.scales = at::rand({2, 2}) + 0.1;
  for (const auto& stored : {fp8, with_float_scales, encode_fp4(values(37, 96, at::kFloat))}) {
    for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      const auto w = values(rows_of(stored), columns_of(stored), type);
      EXPECT_TRUE(same_codes(encode_like(w, stored), encode_like_reference(w, stored)))
          << stored.values.sizes() << " of " << type;
    }
  }
}

TEST(EncodeLike, SaturatesWhatTheStoredScalesDoNotHold) {
  const auto stored = encode_fp4(at::ones({1, 32}));
  EXPECT_EQ(decode(encode_like(at::full({1, 32}, -100.0), stored)).min().item<double>(),
            decode({at::full({1, 16}, 0x77, at::kByte), stored.scales}).max().item<double>() * -1);
}

}  // namespace
}  // namespace braid
