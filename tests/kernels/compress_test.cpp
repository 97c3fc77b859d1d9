#include "kernels/compress.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::normal_tensor;
using testing::wide;

struct CompressCase {
  const char* name;
  int64_t B, U, C, R, H;
  bool overlap;
};

std::vector<CompressCase> cases() {
  return {{"one token an entry", 1, 3, 3, 1, 2, false},
          {"no entry", 1, 3, 0, 4, 2, true},
          {"own tokens", 2, 14, 3, 4, 16, false},
          {"overlap", 2, 14, 3, 4, 16, true},
          {"overlap, odd sizes", 1, 31, 9, 3, 19, true},
          {"many tokens an entry", 1, 270, 2, 128, 37, false}};
}

// Windows of R tokens, the tail left over; in the last sequence the last entry is none, and stands
// on rows of others.
PooledRows pooled_of(const CompressCase& c) {
  auto first = (at::arange(c.C, at::kLong) * c.R).repeat({c.B, 1});
  if (c.B > 1) {
    first[c.B - 1][c.C - 1] = 0;
  }
  const auto rows = first.unsqueeze(-1) + at::arange(c.R, at::kLong);
  if (!c.overlap) {
    return {rows, {}, {}};
  }
  return {rows, (rows - c.R).clamp_min(0), first > 0};
}

std::vector<testing::OpInput> inputs(const CompressCase& c) {
  const int64_t width = c.overlap ? 2 * c.H : c.H;
  return {wide(normal_tensor(text(c.name, " projected"), {c.B, c.U, 2 * width})),
          wide(normal_tensor(text(c.name, " ape"), {c.R, width}))};
}

testing::Op bound(decltype(compress)* f, const PooledRows& pooled) {
  return [=](const auto& in) { return f(in[0], in[1], pooled.to(in[0].device())); };
}

TEST(Compress, EqualsItsReference) {
  for (const auto& c : cases()) {
    const auto pooled = pooled_of(c);
    check_op(text("compress ", c.name),
             {.fused = bound(compress, pooled),
              .reference = bound(compress_reference, pooled),
              .inputs = inputs(c)});
  }
}

// Gradients of a sum over all channels; keys, then gates.
at::Tensor projected_gradient(const CompressCase& c) {
  auto in = inputs(c);
  const auto projected = in[0].value.requires_grad_(true);
  compress(projected, in[1].value, pooled_of(c)).square().sum().backward();
  return projected.grad();
}

TEST(Compress, GivesRowsThatPoolNowhereExactlyNoGradient) {
  const CompressCase c{"tail", 1, 14, 3, 4, 16, true};
  const auto gradient = projected_gradient(c).view({14, 2, 2, 16});  // token, key or gate, half
  const auto reached = (gradient != 0).any(-1);
  for (int64_t token = 0; token < 14; ++token) {
    for (const int64_t part : {0, 1}) {
      // The last whole window has no successor, the tail no entry.
      EXPECT_EQ(reached[token][part][0].item<bool>(), token < 8) << token;
      EXPECT_EQ(reached[token][part][1].item<bool>(), token < 12) << token;
    }
  }
}

TEST(Compress, OfOneTokenIsItsKeyAndItsGateLearnsNothing) {
  const CompressCase c = cases()[0];
  const auto in = inputs(c);
  EXPECT_TRUE(compress(in[0].value, in[1].value, pooled_of(c)).equal(in[0].value.narrow(2, 0, 2)));
  EXPECT_EQ(projected_gradient(c).narrow(2, 2, 2).abs().max().item<double>(), 0);
}

TEST(Compress, StaysFiniteForLargeGates) {
  const CompressCase c = cases()[3];
  const auto in = inputs(c);
  const auto projected = (3000 * in[0].value).to(at::kFloat).requires_grad_(true);
  const auto entries = compress(projected, in[1].value.to(at::kFloat), pooled_of(c));
  entries.sum().backward();
  EXPECT_TRUE(entries.isfinite().all().item<bool>());
  EXPECT_TRUE(projected.grad().isfinite().all().item<bool>());
}

TEST(Compress, DoesNotDependOnTheNumberOfThreads) {
  const CompressCase c{"threads", 2, 400, 99, 4, 48, true};
  at::set_num_threads(1);
  const auto one = projected_gradient(c);
  at::set_num_threads(2);
  EXPECT_TRUE(projected_gradient(c).equal(one));
  at::set_num_threads(1);
}

TEST(Compress, RefusesShapesAndRowsThatDoNotFit) {
  const CompressCase c = cases()[3];
  const auto in = inputs(c);
  const auto &projected = in[0].value, &ape = in[1].value;
  const auto pooled = pooled_of(c);
  const auto refuses = [](const at::Tensor& projected_, const at::Tensor& ape_, PooledRows rows) {
    const auto message = testing::error_of([&] { compress(projected_, ape_, rows); });
    EXPECT_TRUE(message.starts_with("[compress] ")) << message;
  };
  refuses(projected.narrow(2, 0, 60), ape, pooled);
  refuses(projected, ape.narrow(0, 0, 3), pooled);
  refuses(projected, ape.to(at::kFloat), pooled);
  refuses(projected.narrow(0, 0, 1), ape, pooled);
  refuses(projected, ape, {pooled.rows_BCR, pooled.previous_BCR.narrow(1, 0, 2), {}});
  refuses(projected, ape, {pooled.rows_BCR + 3, pooled.previous_BCR, pooled.has_previous_BC});
  refuses(projected, ape, {pooled.rows_BCR, pooled.previous_BCR - 1, pooled.has_previous_BC});
}

}  // namespace
}  // namespace braid
