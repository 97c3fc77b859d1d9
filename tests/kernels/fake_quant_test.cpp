#include "kernels/fake_quant.h"

#include <limits>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/codec.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using namespace testing;

constexpr auto kTypes = {at::kDouble, at::kFloat, at::kBFloat16};

TEST(FakeQuantized, WeightsAreTheDecodedCodesAndTheirGradientGoesStraightThrough) {
  for (const auto type : kTypes) {
    for (const auto format : {QuantFormat::kFp4, QuantFormat::kFp8}) {
      SCOPED_TRACE(text(type, format == QuantFormat::kFp4 ? " FP4" : " FP8"));
      auto w_EOI = normal_tensor("1", {3, 130, 96}).to(type).set_requires_grad(true);
      const auto g_EOI = normal_tensor("2", {3, 130, 96}).to(type);
      const auto rounded = fake_quantized(w_EOI, format);
      const auto reference = fake_quantized_reference(w_EOI, format);
      expect_bitwise_equal("values", rounded.detach(), reference.detach());
      for (int64_t e = 0; e < 3; ++e) {
        const auto w = w_EOI.detach()[e];
        const auto codes =
            format == QuantFormat::kFp4 ? encode_fp4(w) : encode_fp8(w, at::kFloat8_e8m0fnu);
        expect_bitwise_equal(text("matrix ", e), rounded.detach()[e], decode(codes, type));
        expect_bitwise_equal(
            text("alone ", e), fake_quantized(w_EOI[e], format).detach(), decode(codes, type));
      }
      EXPECT_FALSE(rounded.equal(w_EOI));
      for (const auto& result : std::vector{rounded, reference}) {
        w_EOI.mutable_grad().reset();
        result.backward(g_EOI);
        expect_bitwise_equal("gradient", w_EOI.grad(), g_EOI);
      }
      // Nothing is rounded twice.
      expect_bitwise_equal("again", fake_quantized(rounded.detach(), format), rounded.detach());
    }
  }
}

TEST(FakeQuantized, IsTheSameOnEveryDevice) {
  for (const auto type : kTypes) {
    const auto w_EOI = normal_tensor("1", {3, 130, 96}).to(type),
               x = normal_tensor("3", {2, 5, 64}).to(type);
    for (const auto device : devices()) {
      for (const auto format : {QuantFormat::kFp4, QuantFormat::kFp8}) {
        auto on_device = w_EOI.to(device).clone().requires_grad_(true);
        const auto rounded = fake_quantized(on_device, format);
        expect_bitwise_equal(text("weights on ", device), rounded, fake_quantized(w_EOI, format));
        rounded.backward(on_device.detach());
        expect_bitwise_equal(text("gradient on ", device), on_device.grad(), w_EOI);
      }
      expect_bitwise_equal(text("activations on ", device),
                           fake_fp4_activations(x.to(device)),
                           fake_fp4_activations(x));
    }
  }
}

TEST(FakeQuantized, OffIsTheWeightItself) {
  const auto w = normal_tensor("1", {4, 5});
  EXPECT_TRUE(fake_quantized(w, QuantFormat::kOff).is_same(w));
}

TEST(FakeFp4Activations, AreRoundedInGroupsAndKeepWhatIsNotFinite) {
  for (const auto type : kTypes) {
    auto x_BSH = normal_tensor("3", {2, 5, 64}).to(type);
    x_BSH[0][1].slice(0, 0, 32).zero_();
    x_BSH[1][2].mul_(1e-30);
    x_BSH.set_requires_grad(true);
    const auto rounded = fake_fp4_activations(x_BSH);
    expect_bitwise_equal(
        "values", rounded.detach(), fake_fp4_activations_reference(x_BSH).detach());
    // At most a sixth of a group's largest magnitude from the value: half the widest step.
    const auto groups = x_BSH.detach().view({-1, 32}).to(at::kDouble);
    const auto error = (rounded.detach().view({-1, 32}).to(at::kDouble) - groups).abs();
    const auto largest = std::get<0>(groups.abs().max(1, /*keepdim=*/true));
    EXPECT_TRUE((error <= largest / 3).all().item<bool>());
    const auto g = normal_tensor("4", {2, 5, 64}).to(type);
    rounded.backward(g);
    expect_bitwise_equal("gradient", x_BSH.grad(), g);

    auto broken = x_BSH.detach().clone();
    broken[0][0][3] = std::numeric_limits<double>::infinity();
    broken[1][4][63] = std::numeric_limits<double>::quiet_NaN();
    const auto kept = fake_fp4_activations(broken);
    EXPECT_TRUE(kept.isfinite().equal(broken.isfinite()));
    expect_bitwise_equal("other rows", kept[1][0], fake_fp4_activations(broken[1][0]));
  }
}

// A decode state begins without compressed entries.
TEST(FakeFp4Activations, OfNoRowsAreNone) {
  for (const auto device : devices()) {
    const auto none = at::zeros({2, 0, 64}, at::device(device));
    EXPECT_EQ(fake_fp4_activations(none).sizes(), none.sizes()) << device;
  }
}

TEST(Hadamard, IsItsOwnInverseAndSpreadsAnOutlierEvenly) {
  for (const int64_t n : {1, 2, 32, 128}) {
    const auto H = hadamard_matrix(n, at::kDouble);
    expect_close(
        text("H H of ", n), at::matmul(H, H), at::eye(n, at::kDouble), {.absolute = 1e-14});
    EXPECT_TRUE(H.equal(H.t()));
    const double unit = 1 / std::sqrt(static_cast<double>(n));
    EXPECT_TRUE(H[n - 1].abs().eq(unit).all().item<bool>());
  }
  EXPECT_NE(error_of([] { hadamard_matrix(48, at::kFloat); }).find("48 channels"),
            std::string::npos);
}

}  // namespace
}  // namespace braid
