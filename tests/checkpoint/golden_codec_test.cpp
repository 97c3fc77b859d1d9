// The codecs against tensors that other implementations quantized (tests/data/README.md).
#include <string>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "checkpoint/release_layout.h"
#include "checkpoint/safetensors.h"
#include "kernels/codec.h"

namespace braid {
namespace {

std::string golden(const std::string& name) {
  return std::string(BRAID_TEST_DATA "/golden/quant/") + name + ".safetensors";
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.view(at::kByte).equal(b.view(at::kByte));
}

TEST(GoldenCodes, DecodeBitForBit) {
  const SafetensorsFile quantized(golden("quantised")), expected(golden("dequantised"));
  ASSERT_FALSE(expected.names().empty());
  for (const auto& name : expected.names()) {
    const auto values =
        decode({quantized.tensor(name), quantized.tensor(scale_name(name))}, at::kFloat);
    const auto want = expected.tensor(name);
    ASSERT_EQ(values.sizes(), want.sizes()) << name;
    const auto same = values.view(at::kInt) == want.view(at::kInt);
    EXPECT_TRUE(same.logical_or(values.isnan().logical_and(want.isnan())).all().item<bool>())
        << name;
  }
}

TEST(GoldenCodes, EncodeBitForBit) {
  const SafetensorsFile file(golden("encode"));
  const auto check = [&](const std::string& format, const Codes& codes) {
    EXPECT_TRUE(same_bits(codes.values, file.tensor(format + ".weight"))) << format;
    EXPECT_TRUE(same_bits(codes.scales, file.tensor(format + ".scale"))) << format;
    EXPECT_TRUE(decode(codes).equal(file.tensor(format + ".dequantised"))) << format;
  };
  check("fp4", encode_fp4(file.tensor("fp4.input")));
  check("fp8", encode_fp8(file.tensor("fp8.input"), at::kFloat8_e8m0fnu));
}

}  // namespace
}  // namespace braid
