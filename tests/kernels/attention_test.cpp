#include "kernels/attention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/kernels/check_op.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::check_op;
using testing::expect_close;
using testing::normal_tensor;
using testing::wide;

struct AttentionCase {
  const char* name;
  int64_t B, S, N, H, U, C, window;
};

std::vector<AttentionCase> cases() {
  return {{"window only", 1, 9, 2, 6, 9, 0, 4},
          {"window and entries", 2, 11, 3, 5, 11, 4, 4},
          {"one token", 1, 1, 1, 1, 1, 0, 1},
          {"one head channel", 1, 5, 4, 1, 5, 2, 3},
          {"kept keys before", 2, 3, 2, 8, 10, 6, 5},
          {"odd sizes", 1, 17, 3, 7, 17, 5, 17},
          {"several tiles of queries", 2, 70, 2, 4, 75, 9, 20}};
}

// The queries stand at the end of the keys.
KeyRange window_of(const AttentionCase& c) {
  const auto end = at::arange(c.U - c.S + 1, c.U + 1, at::kLong).expand({c.B, c.S});
  return {(end - c.window).clamp_min(0), end};
}

// Any half of the entries; some queries see none of them.
SeenEntries chosen_of(const AttentionCase& c) {
  return entries_of(normal_tensor(text(c.name, " visible"), {c.B, c.S, c.C}) > 0);
}

// As in a layer whose entries are all attended to once complete, in two documents.
SeenEntries range_of(const AttentionCase& c) {
  const auto step = at::arange(c.S, at::kLong);
  const auto second = (step >= c.S / 2).to(at::kLong) * (c.C / 2);
  const auto end = at::minimum(step.div(2, "floor"), second + c.C - c.C / 2).clamp_max(c.C);
  return {{second.expand({c.B, c.S}), end.expand({c.B, c.S})}, {}};
}

std::vector<testing::OpInput> inputs(const AttentionCase& c) {
  const auto named = [&](const char* what, std::vector<int64_t> shape) {
    return normal_tensor(text(c.name, " ", what), shape);
  };
  return {{named("q", {c.B, c.S, c.N, c.H})},
          {named("kv", {c.B, c.U, c.H})},
          {named("compressed", {c.B, c.C, c.H})},
          wide(named("sink", {c.N}))};
}

testing::Op bound(decltype(attention)* f, KeyRange window, SeenEntries entries, double scale) {
  return [=](const auto& in) {
    const auto device = in[0].device();
    return f(in[0], in[1], in[2], in[3], window.to(device), entries.to(device), scale);
  };
}

TEST(Attention, EqualsItsReference) {
  for (const auto& c : cases()) {
    const auto window = window_of(c);
    const auto no_lists = entries_of(at::zeros({c.B, c.S, c.C}, at::kBool));
    for (const auto& entries : {chosen_of(c), range_of(c), no_lists}) {
      check_op(text("attention ", c.name, entries.chosen_BSK.defined() ? " chosen" : " range"),
               {.fused = bound(attention, window, entries, 0.7),
                .reference = bound(attention_reference, window, entries, 0.7),
                .inputs = inputs(c),
                .float32 = 5e-6,  // the sink's gradient sums terms of both signs
                // Probabilities and their gradients may be rounded too, which does not average out
                // over one channel.
                .bfloat16 = c.H == 1 ? 1.0 / 16 : 1.0 / 256});
    }
  }
}

// Several waves of tiles, channels for several threads, and more than one depth of a panel.
TEST(Attention, DoesNotDependOnTheNumberOfThreads) {
  const AttentionCase c{"threads", 1, 300, 32, 40, 300, 90, 20};
  const auto window = window_of(c);
  for (const auto& entries : {chosen_of(c), range_of(c)}) {
    testing::check_threads("attention", bound(attention, window, entries, 0.3), inputs(c));
  }
}

// Sums that are longer than a panel's share of the cache, in the gradients of keys.
TEST(Attention, OfLongTilesEqualsItsReference) {
  const AttentionCase c{"long", 1, 40, 32, 40, 600, 700, 600};
  check_op("attention",
           {.fused = bound(attention, window_of(c), range_of(c), 0.3),
            .reference = bound(attention_reference, window_of(c), range_of(c), 0.3),
            .inputs = inputs(c),
            .float64 = 1e-12,
            .float32 = 5e-6,
            .bfloat16 = 1.0 / 128,
            .gradcheck = false,
            .on_host = false});
}

// Shapes at which kernels/cuda takes other ways: more heads than a block has at once, several tiles
// of keys, channels of a model, lists that end early, queries that see nothing, more queries than a
// block has threads.
TEST(Attention, OfWideHeadsAndManyQueriesEqualsItsReference) {
  for (const AttentionCase& c : {AttentionCase{"wide heads", 1, 2, 64, 512, 70, 80, 70},
                                 {"many heads", 1, 2, 70, 136, 40, 90, 40},
                                 {"few channels of a piece", 2, 5, 20, 24, 12, 70, 5},
                                 {"broken pieces", 1, 3, 9, 100, 40, 6, 33},
                                 {"many keys", 1, 2, 3, 16, 200, 9, 200},
                                 {"many keys of wide heads", 1, 2, 3, 136, 200, 9, 200},
                                 {"queries that see nothing", 1, 6, 3, 16, 6, 4, 0},
                                 {"many queries", 3, 90, 1, 8, 95, 4, 3}}) {
    const auto window = window_of(c);
    for (const auto& entries : {chosen_of(c), range_of(c)}) {
      check_op(text("attention ", c.name, entries.chosen_BSK.defined() ? " chosen" : " range"),
               {.fused = bound(attention, window, entries, 0.1),
                .reference = bound(attention_reference, window, entries, 0.1),
                .inputs = inputs(c),
                .float64 = 1e-12,
                .float32 = 5e-6,
                .bfloat16 = 1.0 / 128,
                .gradcheck = false});
    }
  }
}

// The formula of the header, query by query.
TEST(Attention, IsOneSoftmaxOverWindowEntriesAndSink) {
  const double scale = 0.7;
  for (const auto& c : cases()) {
    const auto window = window_of(c);
    const auto entries = chosen_of(c);
    const auto raw = mask_of(window, c.U), visible = mask_of(entries, c.C);
    const auto in = inputs(c);
    auto want = at::zeros({c.B, c.S, c.N, c.H}, at::kDouble);
    for (int64_t b = 0; b < c.B; ++b) {
      const auto keys = at::cat({in[1].value[b], in[2].value[b]});
      for (int64_t s = 0; s < c.S; ++s) {
        const auto sees = at::cat({raw[b][s], visible[b][s]}).to(at::kDouble);
        for (int64_t n = 0; n < c.N; ++n) {
          const auto weights = (scale * keys.mv(in[0].value[b][s][n])).exp() * sees;
          want[b][s][n] = weights.matmul(keys) / (weights.sum() + in[3].value[n].exp());
        }
      }
    }
    expect_close(c.name,
                 bound(attention, window, entries, scale)(
                     {in[0].value, in[1].value, in[2].value, in[3].value}),
                 want,
                 {.relative = 1e-13});
  }
}

TEST(Attention, OfAQueryThatSeesNothingIsZeroWithZeroGradients) {
  const AttentionCase c = cases()[1];
  auto window = window_of(c);
  auto entries = chosen_of(c);
  window.end_BS = window.end_BS.clone();
  window.end_BS.select(1, 3).copy_(window.first_BS.select(1, 3));
  entries.chosen_BSK.select(1, 3).fill_(-1);
  for (const auto& f : {attention, attention_reference}) {
    auto in = inputs(c);
    auto q = in[0].value.requires_grad_(true), sink = in[3].value.requires_grad_(true);
    const auto o = f(q, in[1].value, in[2].value, sink, window, entries, 0.7);
    EXPECT_EQ(o.select(1, 3).abs().max().item<double>(), 0);
    o.select(1, 3).sum().backward();
    EXPECT_EQ(q.grad().abs().max().item<double>(), 0);
    EXPECT_EQ(sink.grad().abs().max().item<double>(), 0);
  }
}

// Products of some thousands overflow e^z in every type unless the largest is taken off first.
TEST(Attention, StaysFiniteForLargeScores) {
  const AttentionCase c = cases()[1];
  const auto in = inputs(c);
  for (const auto& f : {attention, attention_reference}) {
    auto q = (3000 * in[0].value).to(at::kFloat).requires_grad_(true);
    const auto o = f(q,
                     in[1].value.to(at::kFloat),
                     in[2].value.to(at::kFloat),
                     in[3].value.to(at::kFloat),
                     window_of(c),
                     chosen_of(c),
                     1);
    EXPECT_TRUE(o.isfinite().all().item<bool>());
    o.sum().backward();
    EXPECT_TRUE(q.grad().isfinite().all().item<bool>());
  }
}

TEST(Attention, RefusesShapesThatDoNotFit) {
  const AttentionCase c = cases()[1];
  const auto in = inputs(c);
  const auto window = window_of(c);
  const auto entries = chosen_of(c), range = range_of(c);
  const auto &q = in[0].value, &kv = in[1].value, &compressed = in[2].value, &sink = in[3].value;
  const auto refuses = [](const at::Tensor& q_,
                          const at::Tensor& kv_,
                          const at::Tensor& compressed_,
                          const at::Tensor& sink_,
                          const KeyRange& window_,
                          const SeenEntries& entries_) {
    const auto message =
        testing::error_of([&] { attention(q_, kv_, compressed_, sink_, window_, entries_, 1); });
    EXPECT_TRUE(message.starts_with("[attention] ")) << message;
  };
  refuses(q, kv.narrow(2, 0, 4), compressed, sink, window, entries);
  refuses(q, kv, compressed.narrow(2, 0, 4), sink, window, entries);
  refuses(q, kv, compressed, sink.narrow(0, 0, 2), window, entries);
  refuses(q, kv, compressed, sink, {window.first_BS, window.end_BS.narrow(1, 0, 5)}, entries);
  refuses(q, kv, compressed, sink, window, {range.range, entries.chosen_BSK.narrow(1, 0, 5)});
  // Keys that do not exist.
  refuses(q, kv, compressed, sink, {window.first_BS, window.end_BS + 1}, entries);
  refuses(q, kv, compressed, sink, {window.first_BS - 1, window.end_BS}, entries);
  refuses(q, kv, compressed, sink, window, {{range.range.first_BS, range.range.end_BS + 4}, {}});
  refuses(q, kv, compressed, sink, window, {range.range, entries.chosen_BSK + 1});
}

// Queries that choose different entries are put into small tiles, like-minded ones into large ones.
TEST(Attention, DoesNotDependOnHowQueriesAreTiled) {
  const int64_t S = 64, N = 4, H = 8, C = 500, K = 6;
  const auto q = normal_tensor("q", {1, S, N, H}), kv = normal_tensor("kv", {1, S, H}),
             compressed = normal_tensor("compressed", {1, C, H}), sink = normal_tensor("sink", {N});
  const auto end = at::arange(1, S + 1, at::kLong).expand({1, S});
  const KeyRange window{(end - 4).clamp_min(0), end};
  auto scattered = (at::arange(S * K, at::kLong) * 7919 % C).view({1, S, K});
  auto alike = (at::arange(K, at::kLong) * 31).expand({1, S, K});
  for (const auto& chosen :
       {scattered, alike, at::cat({scattered.narrow(1, 0, 20), alike.narrow(1, 0, 44)}, 1)}) {
    const SeenEntries entries{window, std::get<0>(chosen.sort(-1)).contiguous()};
    const auto o = attention(q, kv, compressed, sink, window, entries, 0.5);
    expect_close("together",
                 o,
                 attention_reference(q, kv, compressed, sink, window, entries, 0.5),
                 {.relative = 1e-13});
  }
}

}  // namespace
}  // namespace braid
