#include "kernels/weight.h"

#include <algorithm>
#include <cstdint>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/codec.h"
#include "kernels/experts.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/devices.h"
#include "tests/support/mapped_values.h"

namespace braid {
namespace {

Weight quantized(const Codes& codes) {
  return {codes.values, codes.scales};
}

struct Case {
  const char* name;
  Weight weight;
};

// Ragged tiles, more than one block of rows and of columns.
std::vector<Case> cases() {
  at::manual_seed(3);
  const auto normal = [](int64_t rows, int64_t columns) {
    return at::randn({rows, columns}) * at::rand({rows, 1});
  };
  return {{"FP8, E8M0 scales", quantized(encode_fp8(normal(300, 200), at::kFloat8_e8m0fnu))},
          {"FP8, F32 scales", quantized(encode_fp8(normal(130, 129), at::kFloat))},
          {"FP8, many blocks", quantized(encode_fp8(normal(1100, 1200), at::kFloat8_e8m0fnu))},
          {"FP4", quantized(encode_fp4(normal(70, 96)))},
          {"FP4, many blocks", quantized(encode_fp4(normal(1100, 1216)))}};
}

Weight on(at::Device device, const Weight& weight) {
  return {weight.values.to(device), weight.quantized() ? weight.scales.to(device) : weight.scales};
}

double relative_error(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).to(at::kDouble).norm() / b.to(at::kDouble).norm()).item<double>();
}

TEST(QuantizedProduct, EqualsTheProductWithTheWholeMatrixInValueAndGradient) {
  for (const auto& [name, weight] : cases()) {
    for (const auto& [type, tolerance] :
         {std::pair{at::kDouble, 1e-14}, {at::kFloat, 2e-6}, {at::kBFloat16, 4e-3}}) {
      SCOPED_TRACE(text(name, ", ", type));
      const auto values = at::randn({2, 5, weight.columns()}).to(type);
      const auto expected_x = values.clone().requires_grad_(true);
      const auto expected = project_reference(expected_x, weight);
      const auto dy = at::randn(expected.sizes()).to(type);
      expected.backward(dy);
      for (const auto device : testing::devices()) {
        SCOPED_TRACE(device);
        const auto x = values.to(device).clone().requires_grad_(true);
        const auto y = project(x, on(device, weight));
        ASSERT_EQ(y.sizes(), expected.sizes());
        EXPECT_LT(relative_error(y.detach().cpu(), expected.detach()), tolerance);
        y.backward(dy.to(device));
        EXPECT_LT(relative_error(x.grad().cpu(), expected_x.grad()), tolerance);
      }
    }
  }
}

TEST(GroupedProject, IsTheProductOfEachGroup) {
  const auto codes = encode_fp8(at::randn({3 * 40, 64}), at::kFloat8_e8m0fnu);
  const auto floating = decode(codes).to(at::kDouble);
  const auto reference = [&](const at::Tensor& x_TGI, const at::Tensor& w) {
    return at::bmm(x_TGI.transpose(0, 1), w.view({3, 40, 64}).transpose(1, 2)).transpose(0, 1);
  };
  const auto x_TGI = at::randn({7, 3, 64}, at::kDouble);
  for (const auto device : testing::devices()) {
    const auto y = grouped_project(x_TGI.to(device), on(device, quantized(codes)));
    EXPECT_LT(relative_error(y.cpu(), reference(x_TGI, floating)), 1e-14) << device;
  }
  EXPECT_LT(relative_error(grouped_project_reference(x_TGI, quantized(codes)),
                           reference(x_TGI, floating)),
            1e-14);
  testing::check_op("grouped project",
                    {.fused = [](const auto& in) { return grouped_project(in[0], Weight(in[1])); },
                     .reference = [&](const auto& in) { return reference(in[0], in[1]); },
                     .inputs = {{x_TGI}, {floating}}});
}

TEST(ProjectEach, IsTheProductWithEach) {
  const auto x = at::randn({7, 96}, at::kDouble);
  const auto codes = quantized(encode_fp8(at::randn({40, 96}), at::kFloat8_e8m0fnu));
  const Weight floating(at::randn({21, 96}, at::kDouble)), other(at::randn({5, 96}, at::kDouble));
  for (const auto& weights :
       {std::vector{floating, other}, {floating, codes}, {codes, codes}, {other}}) {
    for (const auto device : testing::devices()) {
      std::vector<Weight> moved;
      for (const auto& weight : weights) {
        moved.push_back(on(device, weight));
      }
      const auto results = project_each(x.to(device), moved);
      ASSERT_EQ(results.size(), weights.size());
      for (std::size_t i = 0; i < weights.size(); ++i) {
        EXPECT_LT(relative_error(results[i].cpu(), project_reference(x, weights[i])), 1e-14)
            << device;
      }
    }
  }
}

TEST(QuantizedProduct, TellsWhereItsTimeWent) {
  const auto before = product_times();
  project(at::randn({64, 1216}), quantized(encode_fp4(at::randn({1100, 1216}))));
  EXPECT_GT(product_times().decoding, before.decoding);
  EXPECT_GT(product_times().multiplying, before.multiplying);
  EXPECT_EQ(product_times().waiting, before.waiting);
}

TEST(QuantizedProduct, RefusesAnInputOfAnotherWidth) {
  const auto weight = quantized(encode_fp4(at::randn({8, 64})));
  const auto message = testing::error_of([&] { project(at::randn({2, 32}), weight); });
  EXPECT_EQ(message, "[project] x has 32 channels, the weight 64");
}

class QuantizedExperts : public ::testing::Test {
 protected:
  static constexpr int64_t kE = 4, kF = 64, kD = 96, kT = 9, kK = 2;

  static ExpertWeights experts(int64_t out, int64_t in) {
    std::vector<Weight> each;
    for (int64_t e = 0; e < kE; ++e) {
      each.push_back(quantized(encode_fp4(at::randn({out, in}) * 0.1)));
    }
    return ExpertWeights(std::move(each));
  }

  static at::Tensor stack(const ExpertWeights& weights, at::ScalarType type) {
    std::vector<at::Tensor> matrices;
    for (const auto& weight : weights.each()) {
      matrices.push_back(decode({weight.values, weight.scales}, type));
    }
    return at::stack(matrices);
  }

  ExpertWeights w1 = experts(kF, kD), w2 = experts(kD, kF), w3 = experts(kF, kD);
  at::Tensor experts_TK = at::stack({at::arange(kT) % 3, (at::arange(kT) + 1) % 3}, 1);
};

TEST_F(QuantizedExperts, EqualExpertsThatWereDecodedInValueAndGradient) {
  for (const auto& [type, tolerance] : {std::pair{at::kDouble, 1e-13}, {at::kFloat, 3e-6}}) {
    SCOPED_TRACE(type);
    const auto x_values = at::randn({kT, kD}).to(type), mix = at::rand({kT, kK}).to(type);
    const auto x = x_values.clone().requires_grad_(true), m = mix.clone().requires_grad_(true);
    const auto x2 = x_values.clone().requires_grad_(true), m2 = mix.clone().requires_grad_(true);
    const auto y = routed_experts(x, experts_TK, m, w1, w2, w3, 2.0);
    const auto expected =
        routed_experts(x2, experts_TK, m2, stack(w1, type), stack(w2, type), stack(w3, type), 2.0);
    const auto reference = routed_experts_reference(x2, experts_TK, m2, w1, w2, w3, 2.0);
    EXPECT_LT(relative_error(y.detach(), expected.detach()), tolerance);
    EXPECT_LT(relative_error(y.detach(), reference.detach()), tolerance);
    const auto dy = at::randn(y.sizes()).to(type);
    y.backward(dy);
    expected.backward(dy);
    EXPECT_LT(relative_error(x.grad(), x2.grad()), tolerance);
    EXPECT_LT(relative_error(m.grad(), m2.grad()), tolerance);
  }
}

TEST_F(QuantizedExperts, MayNotBeMixedWithTrainedStacks) {
  const auto message = testing::error_of([&] {
    routed_experts(
        at::randn({kT, kD}), experts_TK, at::rand({kT, kK}), w1, stack(w2, at::kFloat), w3, 2.0);
  });
  EXPECT_NE(message.find("must all be quantized"), std::string::npos) << message;
}

TEST(MappedWeights, LeaveTheProcessAfterAProductUnlessTheyAreKept) {
  const auto codes = encode_fp4(at::randn({256, 512}));
  const testing::MappedValues mapped(codes.values);
  const Weight weight(mapped.tensor, codes.scales, WeightPlace::kMapped);
  if (mapped.pages() < 0) {
    GTEST_SKIP() << "this system does not tell a process which pages it has";
  }
  const auto x = at::randn({3, 512});
  {
    const MappedPagesKept kept;
    testing::expect_close(
        "kept", project(x, weight), project_reference(x, weight), {.relative = 1e-5});
    EXPECT_EQ(mapped.pages(), 16);
  }
  project(x, weight);
  EXPECT_EQ(mapped.pages(), 0);
}

TEST(MappedWeights, LetGoOfTheirPagesWhereNoProductDid) {
  const auto codes = encode_fp4(at::randn({256, 512}));
  const testing::MappedValues values(codes.values), scales(codes.scales);
  const Weight weight(values.tensor, scales.tensor, WeightPlace::kMapped);
  if (values.pages() < 0) {
    GTEST_SKIP() << "this system does not tell a process which pages it has";
  }
  EXPECT_TRUE(weight.values.equal(codes.values));
  EXPECT_GT(values.pages(), 0);
  weight.release_pages();
  EXPECT_EQ(values.pages() + scales.pages(), 0);
}

TEST(FrozenStacks, GetNoGradientAndCostNone) {
  const auto w = at::randn({2, 8, 8}, at::kDouble);
  const auto x = at::randn({3, 8}, at::kDouble).requires_grad_(true);
  const auto ids = at::zeros({3, 1}, at::kLong);
  const auto trained = w.clone().requires_grad_(true);
  routed_experts(x, ids, at::ones({3, 1}, at::kDouble), w, trained, w, 5.0).sum().backward();
  EXPECT_FALSE(w.grad().defined());
  EXPECT_TRUE(trained.grad().defined());
}

}  // namespace
}  // namespace braid
