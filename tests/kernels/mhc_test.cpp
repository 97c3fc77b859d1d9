#include "kernels/mhc.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/streams.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::normal_tensor;
using testing::wide;

constexpr MhcOptions kOptions{.iterations = 20, .hc_eps = 1e-6, .norm_eps = 1e-3};

struct MhcCase {
  std::vector<int64_t> tokens;
  int64_t M, D;
  bool gradcheck = true;
};

// Whole and broken blocks of sixteen tokens, several parts, widths with and without whole vectors;
// nine streams are left to the reference.
std::vector<MhcCase> cases() {
  return {{{2, 5}, 4, 24},
          {{17}, 4, 5},
          {{3}, 1, 5},
          {{2}, 9, 3},
          {{6}, 2, 37},
          {{2}, 8, 3},
          {{0}, 4, 8},
          {{300}, 4, 16, false}};
}

std::vector<int64_t> followed_by(std::vector<int64_t> shape, std::vector<int64_t> more) {
  shape.insert(shape.end(), more.begin(), more.end());
  return shape;
}

std::vector<testing::OpInput> inputs(const MhcCase& c, int64_t rows, int64_t scales) {
  return {{normal_tensor("X", followed_by(c.tokens, {c.M, c.D}))},
          wide(0.3 * normal_tensor("fn", {rows, c.M * c.D})),
          wide(normal_tensor("base", {rows})),
          wide(0.5 * normal_tensor("scale", {scales})),
          wide(normal_tensor("norm", {c.D}))};
}

std::string name_of(const char* what, const MhcCase& c) {
  return text(what, " ", at::IntArrayRef(c.tokens), " M ", c.M, " D ", c.D);
}

MhcWeights weights(const std::vector<at::Tensor>& in) {
  return {in[1], in[2], in[3]};
}

// A sublayer that does nothing: what leaves depends on everything that entered.
template <class Enter>
at::Tensor through(const Enter& enter, const std::vector<at::Tensor>& in) {
  const auto entered = enter(in[0], weights(in), in[4], kOptions);
  return expand_streams(entered.X_TMD, entered.h_TD, entered.post_TM, entered.mix_TMM);
}

// Sinkhorn's 39 divisions and sums over M D channels: float32 errors grow to some 1e-6.
TEST(Mhc, ASublayersStreamsEqualTheReference) {
  for (const auto& c : cases()) {
    check_op(name_of("enter", c),
             {.fused = [](const auto& in) { return through(enter_streams, in); },
              .reference = [](const auto& in) { return through(enter_streams_reference, in); },
              .inputs = inputs(c, (2 + c.M) * c.M, 3),
              .float64 = 1e-12,
              .float32 = 5e-6,
              .bfloat16 = 1.0 / 64,  // of gradients that are rounded at each of three operations
              .gradcheck = c.gradcheck});
  }
}

TEST(Mhc, DoesNotDependOnTheNumberOfThreads) {
  const MhcCase c{{700}, 4, 20};
  testing::check_threads(
      "enter",
      [](const auto& in) { return through(enter_streams, in); },
      inputs(c, (2 + c.M) * c.M, 3));
}

// The norm takes back what weighs one stream alone: with M = 1 those gradients are rounding.
TEST(Mhc, TheInputAloneEqualsTheReference) {
  for (const auto& c : cases()) {
    check_op(
        name_of("input", c),
        {.fused =
             [](const auto& in) { return enter_streams(in[0], weights(in), in[4], kOptions).h_TD; },
         .reference =
             [](const auto& in) {
               return enter_streams_reference(in[0], weights(in), in[4], kOptions).h_TD;
             },
         .inputs = inputs(c, (2 + c.M) * c.M, 3),
         .float64 = c.M == 1 ? 1 : 1e-12,
         .float32 = c.M == 1 ? 1 : 5e-6,
         .bfloat16 = c.M == 1 ? 2 : 1.0 / 64,
         .gradcheck = c.gradcheck});
  }
}

TEST(Mhc, JoinedStreamsEqualTheReference) {
  for (const auto& c : cases()) {
    check_op(
        name_of("join", c),
        {.fused = [](const auto& in) { return join_streams(in[0], weights(in), in[4], kOptions); },
         .reference =
             [](const auto& in) {
               return join_streams_reference(in[0], weights(in), in[4], kOptions);
             },
         .inputs = inputs(c, c.M, 1),
         .float64 = c.M == 1 ? 1 : 1e-12,
         .float32 = c.M == 1 ? 1 : 5e-6,
         .bfloat16 = c.M == 1 ? 2 : 1.0 / 64,
         .gradcheck = c.gradcheck});
  }
}

// The streams' gradient is completed in place only where no one else looks at it.
TEST(Mhc, GradientsThatOthersKeepStayAsTheyWere) {
  std::vector<at::Tensor> in;
  for (const auto& input : inputs({{5}, 4, 16}, 24, 3)) {
    in.push_back(input.value.clone().requires_grad_(true));
  }
  const auto entered = enter_streams(in[0], weights(in), in[4], kOptions);
  at::Tensor kept, as_it_was;
  entered.X_TMD.register_hook([&](const at::Tensor& gradient) {
    kept = gradient;
    as_it_was = gradient.clone();
  });
  expand_streams(entered.X_TMD, entered.h_TD, entered.post_TM, entered.mix_TMM).sum().backward();
  testing::expect_bitwise_equal("gradient", kept, as_it_was);
}

TEST(Mhc, RefusesShapesThatDoNotFit) {
  const auto X = at::ones({5, 4, 8}), norm = at::ones({8});
  const MhcWeights good{at::ones({24, 32}), at::ones({24}), at::ones({3})};
  auto bad = good;
  bad.fn = at::ones({24, 31});
  EXPECT_EQ(testing::error_of([&] { enter_streams(X, bad, norm, kOptions); }),
            "[enter_streams] shapes do not fit: streams [5, 4, 8], fn [24, 31], base [24], scale "
            "[3], norm [8]");
  EXPECT_NE(testing::error_of([&] { enter_streams(X, good, at::ones({7}), kOptions); }), "");
  EXPECT_NE(testing::error_of([&] { join_streams(X, good, norm, kOptions); }), "");
}

}  // namespace
}  // namespace braid
