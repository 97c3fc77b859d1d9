#include "kernels/experts.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/codec.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::normal_tensor;
using testing::wide;

constexpr double kLimit = 4;

struct ExpertsCase {
  const char* name;
  int64_t T, E, K, D, F;
  int64_t used;  // experts 0..used-1 get tokens
};

std::vector<ExpertsCase> cases() {
  return {{"some unused", 13, 8, 2, 12, 10, 5},
          {"every expert", 6, 4, 4, 7, 5, 4},
          {"one expert", 5, 1, 1, 8, 3, 1},
          {"one token", 1, 6, 3, 4, 4, 6},
          {"size one", 1, 1, 1, 1, 1, 1},
          {"no token", 0, 4, 2, 8, 6, 4}};
}

// K distinct experts of each token, in no order.
at::Tensor chosen_experts(const ExpertsCase& c) {
  const auto scores = normal_tensor(text(c.name, " experts"), {c.T, c.used});
  return scores.argsort(int64_t{-1}, false).narrow(-1, 0, c.K);
}

std::vector<testing::OpInput> inputs(const ExpertsCase& c) {
  const auto named = [&](const char* what, std::vector<int64_t> shape) {
    return normal_tensor(text(c.name, " ", what), shape);
  };
  return {{named("x", {c.T, c.D})},
          wide(named("weights", {c.T, c.K}).abs()),
          wide(named("w1", {c.E, c.F, c.D})),
          wide(named("w2", {c.E, c.D, c.F})),
          wide(named("w3", {c.E, c.F, c.D}))};
}

// Behind inputs(): A of w1 and w3, B of each, A and B of w2.
std::vector<testing::OpInput> inputs_with_adapters(const ExpertsCase& c,
                                                   int64_t rank13 = 3,
                                                   int64_t rank2 = 2) {
  auto in = inputs(c);
  const auto factor = [&](const char* what, std::vector<int64_t> shape) {
    in.push_back(wide(normal_tensor(text(c.name, " ", what), shape)));
  };
  factor("a13", {c.E, rank13, c.D});
  factor("b1", {c.E, c.F, rank13});
  factor("b3", {c.E, c.F, rank13});
  factor("a2", {c.E, rank2, c.F});
  factor("b2", {c.E, c.D, rank2});
  return in;
}

ExpertAdapters adapters_of(const std::vector<at::Tensor>& in) {
  return {in[5], in[6], in[7], in[8], in[9], 0.5, 0.75};
}

TEST(RoutedExperts, EqualTheirReference) {
  for (const auto& c : cases()) {
    const auto experts = chosen_experts(c);
    check_op(text("experts ", c.name),
             {.fused =
                  [&](const auto& in) {
                    return routed_experts(
                        in[0], experts.to(in[0].device()), in[1], in[2], in[3], in[4], kLimit);
                  },
              .reference =
                  [&](const auto& in) {
                    return routed_experts_reference(
                        in[0], experts.to(in[0].device()), in[1], in[2], in[3], in[4], kLimit);
                  },
              .inputs = inputs(c),
              // Weights, pre-activations, hidden values and outputs are rounded, each by up to
              // 2^-9, and a rounded pre-activation may fall to the other side of the clamp.
              .bfloat16 = 1.0 / 16,
              .gradcheck = c.T > 0});
  }
}

// Shapes that a device's kernels for products take, of several tiles.
TEST(RoutedExperts, OfWholePiecesEqualTheirReference) {
  const ExpertsCase c{"whole pieces", 150, 5, 2, 136, 72, 3};
  auto in = inputs_with_adapters(c, 8, 16);
  for (std::size_t i = 2; i < in.size(); ++i) {
    in[i].value = in[i].value / 8;  // sums of so many products stay about the clamp
  }
  const auto experts = chosen_experts(c);
  const auto with = [&](const auto& op) {
    return [&](const std::vector<at::Tensor>& given) {
      const auto chosen = experts.to(given[0].device());
      return op(
          given[0], chosen, given[1], given[2], given[3], given[4], kLimit, adapters_of(given));
    };
  };
  check_op(c.name,
           {.fused = with(routed_experts),
            .reference = with(routed_experts_reference),
            .inputs = in,
            .bfloat16 = 1.0 / 16,  // as above
            .gradcheck = false});
}

// The formula of the header, token by token.
TEST(RoutedExperts, SumTheWeightedOutputsOfTheChosenExperts) {
  for (const auto& c : cases()) {
    const auto experts = chosen_experts(c);
    const auto in = inputs(c);
    const auto &x = in[0].value, &weights = in[1].value;
    auto want = at::zeros({c.T, c.D}, at::kDouble);
    for (int64_t t = 0; t < c.T; ++t) {
      for (int64_t k = 0; k < c.K; ++k) {
        const auto e = experts[t][k].item<int64_t>();
        const auto gate = in[2].value[e].mv(x[t]).clamp_max(kLimit);
        const auto up = in[4].value[e].mv(x[t]).clamp(-kLimit, kLimit);
        want[t] += weights[t][k] * in[3].value[e].mv(gate / (1 + (-gate).exp()) * up);
      }
    }
    const auto got =
        routed_experts(x, experts, weights, in[2].value, in[3].value, in[4].value, kLimit);
    testing::expect_close(c.name, got, want, {.relative = 1e-13});
  }
}

TEST(RoutedExperts, GiveAWideResultAndUnusedExpertsNoGradient) {
  const ExpertsCase c = cases()[0];
  auto in = inputs(c);
  for (auto& input : in) {
    input.value = input.value.to(at::kFloat);
  }
  auto w1 = in[2].value.requires_grad_(true);
  const auto y = routed_experts(in[0].value.to(at::kBFloat16),
                                chosen_experts(c),
                                in[1].value,
                                w1,
                                in[3].value,
                                in[4].value,
                                kLimit);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  y.sum().backward();
  EXPECT_EQ(w1.grad().scalar_type(), at::kFloat);
  EXPECT_EQ(w1.grad().narrow(0, c.used, c.E - c.used).abs().max().item<float>(), 0);
  EXPECT_GT(w1.grad().narrow(0, 0, c.used).abs().amax({1, 2}).min().item<float>(), 0);
}

TEST(RoutedExperts, WithAdaptersEqualTheirReference) {
  for (const auto& c : cases()) {
    const auto experts = chosen_experts(c);
    const auto with = [&](const auto& op) {
      return [&](const std::vector<at::Tensor>& in) {
        const auto chosen = experts.to(in[0].device());
        return op(in[0], chosen, in[1], in[2], in[3], in[4], kLimit, adapters_of(in));
      };
    };
    check_op(text("experts with adapters ", c.name),
             {.fused = with(routed_experts),
              .reference = with(routed_experts_reference),
              .inputs = inputs_with_adapters(c),
              .bfloat16 = 1.0 / 16,  // as above
              .gradcheck = c.T > 0});
  }
}

// W + scale B A, of every expert.
at::Tensor merged(const at::Tensor& w, double scale, const at::Tensor& b, const at::Tensor& a) {
  return w + scale * at::bmm(b, a);
}

TEST(RoutedExperts, WithAdaptersAreThoseOfTheMergedMatrices) {
  const ExpertsCase c = cases()[0];
  std::vector<at::Tensor> in;
  for (const auto& [value, is_wide] : inputs_with_adapters(c)) {
    in.push_back(value);
  }
  const auto experts = chosen_experts(c);
  const auto full = adapters_of(in);
  for (const bool has13 : {false, true}) {
    for (const bool has2 : {false, true}) {
      ExpertAdapters some = {.scale13 = full.scale13, .scale2 = full.scale2};
      auto w1 = in[2], w2 = in[3], w3 = in[4];
      if (has13) {
        some.a13_ErD = full.a13_ErD;
        some.b1_EFr = full.b1_EFr;
        some.b3_EFr = full.b3_EFr;
        w1 = merged(w1, 0.5, full.b1_EFr.stack(), full.a13_ErD.stack());
        w3 = merged(w3, 0.5, full.b3_EFr.stack(), full.a13_ErD.stack());
      }
      if (has2) {
        some.a2_ErF = full.a2_ErF;
        some.b2_EDr = full.b2_EDr;
        w2 = merged(w2, 0.75, full.b2_EDr.stack(), full.a2_ErF.stack());
      }
      testing::expect_close(
          text("adapters of w1 and w3 ", has13, ", of w2 ", has2),
          routed_experts(in[0], experts, in[1], in[2], in[3], in[4], kLimit, some),
          routed_experts(in[0], experts, in[1], w1, w2, w3, kLimit),
          {.relative = 1e-13});
    }
  }
}

// Codes stay frozen; adapters over them are those over the decoded matrices, gradients included.
TEST(RoutedExperts, HaveAdaptersOverCodes) {
  const ExpertsCase c = {"codes", 13, 6, 2, 64, 32, 4};
  for (const bool fp4 : {true, false}) {
    std::vector<at::Tensor> in;
    for (const auto& [value, is_wide] : inputs_with_adapters(c)) {
      in.push_back(value.to(at::kFloat));
    }
    std::vector<ExpertWeights> codes, decoded;
    for (const std::size_t i : {2, 3, 4}) {
      std::vector<Weight> each;
      std::vector<at::Tensor> values;
      for (const auto& matrix : in[i].unbind(0)) {
        const auto coded = fp4 ? encode_fp4(matrix) : encode_fp8(matrix, at::kFloat);
        each.emplace_back(coded.values, coded.scales);
        values.push_back(decode(coded));
      }
      codes.emplace_back(each);
      decoded.emplace_back(at::stack(values));
    }
    const auto experts = chosen_experts(c);
    const auto run = [&](const std::vector<ExpertWeights>& w) {
      std::vector<at::Tensor> leaves;
      for (const auto& value : in) {
        leaves.push_back(value.detach().clone().requires_grad_(true));
      }
      const auto y = routed_experts(
          leaves[0], experts, leaves[1], w[0], w[1], w[2], kLimit, adapters_of(leaves));
      (y * normal_tensor("dy", y.sizes()).to(y.scalar_type())).sum().backward();
      std::vector<at::Tensor> results = {y.detach(), leaves[0].grad(), leaves[1].grad()};
      for (std::size_t i = 5; i < leaves.size(); ++i) {
        results.push_back(leaves[i].grad());
      }
      return results;
    };
    const auto got = run(codes), want = run(decoded);
    for (std::size_t i = 0; i < got.size(); ++i) {
      testing::expect_close(
          text(fp4 ? "fp4" : "fp8", ", result ", i), got[i], want[i], {.relative = 2e-6});
    }
    for (std::size_t i = 3; i < got.size(); ++i) {
      EXPECT_EQ(got[i].narrow(0, c.used, c.E - c.used).abs().max().item<float>(), 0)
          << "an expert that no token visits has a gradient";
    }
  }
}

TEST(RoutedExperts, RefuseAdaptersThatDoNotFit) {
  const auto x = at::ones({3, 8}), weights = at::ones({3, 1});
  const auto w1 = at::ones({4, 6, 8}), w2 = at::ones({4, 8, 6});
  const auto experts = at::zeros({3, 1}, at::kLong);
  const auto message = [&](const ExpertAdapters& adapters) {
    return testing::error_of(
        [&] { routed_experts(x, experts, weights, w1, w2, w1, kLimit, adapters); });
  };
  const auto a13 = at::ones({4, 2, 8}), b1 = at::ones({4, 6, 2});
  EXPECT_NO_THROW(routed_experts(
      x, experts, weights, w1, w2, w1, kLimit, {.a13_ErD = a13, .b1_EFr = b1, .b3_EFr = b1}));
  EXPECT_TRUE(message({.a13_ErD = a13, .b1_EFr = b1})
                  .starts_with("[routed_experts] the adapters of w1 and w3 do not fit"));
  EXPECT_TRUE(message({.a2_ErF = a13, .b2_EDr = b1})
                  .starts_with("[routed_experts] the adapter of w2 does not fit"));
}

TEST(RoutedExperts, RefuseWhatDoesNotFit) {
  const auto x = at::ones({3, 8}), weights = at::ones({3, 2});
  const auto w1 = at::ones({4, 6, 8}), w2 = at::ones({4, 8, 6});
  const auto experts = at::zeros({3, 2}, at::kLong);
  const auto message =
      testing::error_of([&] { routed_experts(x, experts, weights, w1, w1, w1, kLimit); });
  EXPECT_EQ(
      message,
      "[routed_experts] shapes do not fit: x [3, 8], experts [3, 2], weights [3, 2], w1 [4, 6, 8], "
      "w2 [4, 6, 8], w3 [4, 6, 8]");
  EXPECT_NE(testing::error_of([&] {
              routed_experts(x, experts, at::ones({3, 1}), w1, w2, w1, kLimit);
            }),
            "");
  for (const int64_t expert : {-1, 4}) {
    const auto out_of_range = testing::error_of([&] {
      routed_experts(x, at::full({3, 2}, expert, at::kLong), weights, w1, w2, w1, kLimit);
    });
    EXPECT_TRUE(out_of_range.starts_with(text("[routed_experts] expert ", expert))) << out_of_range;
  }
}

}  // namespace
}  // namespace braid
