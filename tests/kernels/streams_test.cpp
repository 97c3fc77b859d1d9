#include "kernels/streams.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::normal_tensor;
using testing::wide;

struct StreamsCase {
  std::vector<int64_t> tokens;
  int64_t M, D;
};

std::vector<StreamsCase> cases() {
  return {{{2, 5}, 4, 24}, {{7}, 4, 17}, {{3}, 1, 5}, {{2}, 9, 3}, {{1}, 4, 1}, {{0}, 4, 8}};
}

std::vector<int64_t> followed_by(std::vector<int64_t> shape, std::vector<int64_t> more) {
  shape.insert(shape.end(), more.begin(), more.end());
  return shape;
}

TEST(Streams, CollapseEqualsItsReference) {
  for (const auto& [tokens, M, D] : cases()) {
    const auto name = text("collapse ", at::IntArrayRef(tokens), " M ", M, " D ", D);
    check_op(name,
             {.fused = [](const auto& in) { return collapse_streams(in[0], in[1]); },
              .reference = [](const auto& in) { return collapse_streams_reference(in[0], in[1]); },
              .inputs = {{normal_tensor("X", followed_by(tokens, {M, D}))},
                         wide(normal_tensor("pre", followed_by(tokens, {M})))}});
  }
}

TEST(Streams, ExpandEqualsItsReference) {
  for (const auto& [tokens, M, D] : cases()) {
    const auto name = text("expand ", at::IntArrayRef(tokens), " M ", M, " D ", D);
    check_op(
        name,
        {.fused = [](const auto& in) { return expand_streams(in[0], in[1], in[2], in[3]); },
         .reference =
             [](const auto& in) { return expand_streams_reference(in[0], in[1], in[2], in[3]); },
         .inputs = {{normal_tensor("X", followed_by(tokens, {M, D}))},
                    {normal_tensor("y", followed_by(tokens, {D}))},
                    wide(normal_tensor("post", followed_by(tokens, {M}))),
                    wide(normal_tensor("mix", followed_by(tokens, {M, M})))}});
  }
}

// X'[k] = post[k] y + sum_j mix[j, k] X[j], with numbers that tell mix from its transpose.
TEST(Streams, ExpandSumsOverTheFirstAxisOfTheMixing) {
  const auto X = at::tensor({1.0, 10.0}, at::kDouble).view({1, 2, 1});
  const auto y = at::tensor({100.0}, at::kDouble).view({1, 1});
  const auto post = at::tensor({1.0, 2.0}, at::kDouble).view({1, 2});
  const auto mix = at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble).view({1, 2, 2});
  const auto want = at::tensor({100.0 + 1 + 30, 200.0 + 2 + 40}, at::kDouble).view({1, 2, 1});
  testing::expect_close("X'", expand_streams(X, y, post, mix), want, {.absolute = 1e-13});
}

// The gradient of what leaves becomes that of what entered only where no one else looks at it.
TEST(Streams, AGradientThatOthersKeepStaysAsItWas) {
  const auto in = [](const char* name, std::vector<int64_t> shape) {
    return normal_tensor(name, shape).requires_grad_(true);
  };
  const auto X = in("X", {5, 4, 8}), y = in("y", {5, 8}), post = in("post", {5, 4}),
             mix = in("mix", {5, 4, 4}), dout = normal_tensor("dout", {5, 4, 8});
  const auto gradients_of = [&](const at::Tensor& out) {
    at::Tensor scalar = (out * dout).sum();  // whose gradient of `out` is no one's but the node's
    for (const auto& x : {X, y, post, mix}) {
      x.mutable_grad() = at::Tensor();
    }
    scalar.backward();
    return std::vector{X.grad(), y.grad(), post.grad(), mix.grad()};
  };
  const auto alone = gradients_of(expand_streams(X, y, post, mix));
  const auto watched = expand_streams(X, y, post, mix);
  at::Tensor kept;
  watched.register_hook([&](const at::Tensor& gradient) { kept = gradient; });
  const auto seen = gradients_of(watched);
  testing::expect_bitwise_equal("gradient", kept, dout);
  for (std::size_t i = 0; i < alone.size(); ++i) {
    testing::expect_bitwise_equal(text("gradient ", i), alone[i], seen[i]);
  }
}

TEST(Streams, RefuseShapesThatDoNotFit) {
  const auto X = at::ones({5, 4, 8}), y = at::ones({5, 8}), post = at::ones({5, 4});
  const auto mix = at::ones({5, 4, 4});
  EXPECT_EQ(testing::error_of([&] {
              collapse_streams(X, at::ones({5, 3}));
            }),
            "[collapse_streams] streams are [5, 4, 8], weights [5, 3]");
  for (const auto& expand :
       std::vector<std::function<void()>>{[&] {
                                            expand_streams(X, at::ones({5, 7}), post, mix);
                                          },
                                          [&] {
                                            expand_streams(X, at::ones({4, 8}), post, mix);
                                          },
                                          [&] {
                                            expand_streams(X, y, at::ones({5, 3}), mix);
                                          },
                                          [&] {
                                            expand_streams(X, y, post, at::ones({5, 3, 4}));
                                          },
                                          [&] {
                                            expand_streams(X, y, post, at::ones({2, 4, 4}));
                                          }}) {
    const auto message = testing::error_of(expand);
    EXPECT_TRUE(message.starts_with("[expand_streams] streams are [5, 4, 8]")) << message;
  }
}

}  // namespace
}  // namespace braid
