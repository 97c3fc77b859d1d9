#include "parallel/expert_exchange.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/experts.h"
#include "kernels/precision.h"
#include "tests/parallel/ranks.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::normal_tensor;
using testing::ranks;

constexpr int64_t kD = 16, kF = 8, kK = 2;
constexpr double kLimit = 3;

// The experts of an MoE layer, and each rank's tokens.
struct Case {
  int64_t experts = 12;
  std::vector<int64_t> tokens;  // by rank
  at::ScalarType type = at::kDouble;

  at::Tensor x(int64_t rank) const {
    return normal_tensor(
               text("x ", rank), {tokens[static_cast<std::size_t>(rank)], kD}, at::kDouble)
        .to(type);
  }
  at::Tensor choices(int64_t rank) const {
    // Most go to the first experts; distinct within a row.
    const auto scores =
        normal_tensor(
            text("choice ", rank), {tokens[static_cast<std::size_t>(rank)], experts}, at::kDouble) -
        0.3 * at::arange(experts);
    return std::get<1>(scores.topk(kK, -1));
  }
  at::Tensor weights(int64_t rank) const {
    return normal_tensor(
               text("w ", rank), {tokens[static_cast<std::size_t>(rank)], kK}, at::kDouble)
        .abs()
        .to(wide_type(type));
  }
  at::Tensor stack(const std::string& name, int64_t out, int64_t in) const {
    return normal_tensor(name, {experts, out, in}, at::kDouble).to(wide_type(type));
  }
  at::Tensor gradient(int64_t rank) const {
    return normal_tensor(
               text("dy ", rank), {tokens[static_cast<std::size_t>(rank)], kD}, at::kDouble)
        .to(wide_type(type));
  }
};

std::vector<int64_t> tokens_of_ranks(const std::vector<int64_t>& pattern) {
  std::vector<int64_t> tokens;
  for (int64_t r = 0; r < ranks().size(); ++r) {
    tokens.push_back(pattern[static_cast<std::size_t>(r) % pattern.size()]);
  }
  return tokens;
}

struct Result {
  at::Tensor y, dx, dweights, dw1, dw2, dw3;
  int64_t bytes = 0;
};

std::vector<int64_t> differences(const std::vector<int64_t>& bounds) {
  std::vector<int64_t> counts;
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    counts.push_back(bounds[i + 1] - bounds[i]);
  }
  return counts;
}

Result exchanged(const Case& given, int64_t waves) {
  const int64_t local = given.experts / ranks().size(), own = ranks().rank();
  const auto part = [&](const at::Tensor& stack) {
    return stack.narrow(0, own * local, local).clone().requires_grad_(true);
  };
  const auto w1 = part(given.stack("w1", kF, kD)), w2 = part(given.stack("w2", kD, kF)),
             w3 = part(given.stack("w3", kF, kD));
  const auto x = given.x(own).requires_grad_(true),
             weights = given.weights(own).requires_grad_(true);
  const auto bounds = wave_bounds(local, waves);
  const auto group = ranks().split(0);
  // One node of the graph for all waves, so that none adds zeros to another's gradient.
  const auto cut = [&](const at::Tensor& stack) {
    return stack.split_with_sizes(differences(bounds), 0);
  };
  const auto w1s = cut(w1), w2s = cut(w2), w3s = cut(w3);
  const auto y = exchanged_experts(
      {group.get(), waves},
      given.experts,
      x,
      given.choices(own),
      weights,
      wide_type(given.type),
      [&](int64_t wave, const at::Tensor& rows, const at::Tensor& expert, const at::Tensor& wt) {
        const auto w = static_cast<std::size_t>(wave);
        return routed_experts(
                   rows, expert.unsqueeze(1), wt.unsqueeze(1), w1s[w], w2s[w], w3s[w], kLimit)
            .to(rows.scalar_type());
      });
  y.backward(given.gradient(own));
  return {
      y.detach(), x.grad(), weights.grad(), w1.grad(), w2.grad(), w3.grad(), group->bytes_sent()};
}

// The same on one rank that has all tokens; this rank's share of the result.
Result together(const Case& given) {
  std::vector<at::Tensor> xs, choices, weights, gradients;
  int64_t first = 0;
  const int64_t own = ranks().rank(), local = given.experts / ranks().size();
  for (int64_t r = 0; r < ranks().size(); ++r) {
    xs.push_back(given.x(r));
    choices.push_back(given.choices(r));
    weights.push_back(given.weights(r));
    gradients.push_back(given.gradient(r));
    first += r < own ? given.tokens[static_cast<std::size_t>(r)] : 0;
  }
  const auto x = at::cat(xs).requires_grad_(true), wt = at::cat(weights).requires_grad_(true);
  const auto w1 = given.stack("w1", kF, kD).requires_grad_(true),
             w2 = given.stack("w2", kD, kF).requires_grad_(true),
             w3 = given.stack("w3", kF, kD).requires_grad_(true);
  const auto y = routed_experts(x, at::cat(choices), wt, w1, w2, w3, kLimit);
  y.backward(at::cat(gradients));
  const int64_t count = given.tokens[static_cast<std::size_t>(own)];
  const auto rows = [&](const at::Tensor& all) { return all.narrow(0, first, count); };
  const auto part = [&](const at::Tensor& all) { return all.narrow(0, own * local, local); };
  return {rows(y.detach()),
          rows(x.grad()),
          rows(wt.grad()),
          part(w1.grad()),
          part(w2.grad()),
          part(w3.grad())};
}

void expect_equal(const Result& got, const Result& want, double tolerance) {
  testing::expect_close("y", got.y, want.y, {.relative = tolerance});
  testing::expect_close("dx", got.dx, want.dx, {.relative = tolerance});
  testing::expect_close("dweights", got.dweights, want.dweights, {.relative = tolerance});
  testing::expect_close("dw1", got.dw1, want.dw1, {.relative = tolerance});
  testing::expect_close("dw2", got.dw2, want.dw2, {.relative = tolerance});
  testing::expect_close("dw3", got.dw3, want.dw3, {.relative = tolerance});
}

TEST(ExchangedExperts, EqualOneRankWithAllTokensInAnyNumberOfWaves) {
  for (const auto& tokens : {std::vector<int64_t>{9}, {5, 0}, {0, 1, 30}}) {
    const Case given{.tokens = tokens_of_ranks(tokens)};
    const auto want = together(given);
    for (const int64_t waves : {1, 2, 3, 50}) {
      SCOPED_TRACE(text(waves, " waves"));
      expect_equal(exchanged(given, waves), want, 1e-13);
    }
  }
}

TEST(ExchangedExperts, WavesDoNotChangeTheBits) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const Case given{.tokens = tokens_of_ranks({11, 7}), .type = type};
    const auto one = exchanged(given, 1), three = exchanged(given, 3);
    testing::expect_bitwise_equal("y", three.y, one.y);
    testing::expect_bitwise_equal("dx", three.dx, one.dx);
    testing::expect_bitwise_equal("dw1", three.dw1, one.dw1);
    expect_equal(one, together(given), type == at::kFloat ? 1e-5 : 2e-2);
  }
}

// A row of D elements and a weight there and a row back, and their gradients, for every choice that
// another rank has; and one count for each of the others' experts.
TEST(ExchangedExperts, SendNoMoreThanTheRowsThatMustTravel) {
  for (const auto type : {at::kDouble, at::kBFloat16}) {
    const Case given{.tokens = tokens_of_ranks({20, 3}), .type = type};
    const int64_t local = given.experts / ranks().size();
    const auto of_rank = given.choices(ranks().rank()).div(local, "floor");
    const int64_t sent = (of_rank != ranks().rank()).sum().item<int64_t>();
    int64_t received = 0;
    for (int64_t r = 0; r < ranks().size(); ++r) {
      received +=
          r == ranks().rank()
              ? 0
              : (given.choices(r).div(local, "floor") == ranks().rank()).sum().item<int64_t>();
    }
    const int64_t row = kD * static_cast<int64_t>(c10::elementSize(type)),
                  weight = static_cast<int64_t>(c10::elementSize(wide_type(type)));
    const int64_t counts = (ranks().size() - 1) * local * 8;
    EXPECT_EQ(exchanged(given, 2).bytes, (sent + received) * (2 * row + weight) + counts);
  }
}

}  // namespace
}  // namespace braid
