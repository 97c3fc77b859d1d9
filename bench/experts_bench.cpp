// Routed experts of Flash's width, FP4 and frozen, forward and input gradient. Arguments: tokens,
// experts, bfloat16 (1) or float32 (0) activations. Counters: `flops` = operations of the three
// products a second of this thread's CPU time (run with OMP_NUM_THREADS=1; with more, `items` a
// second of wall time, tokens, is what counts); `decoding` = its share of the time of products.
// With 512 tokens and 16 experts in float32 also `error` = relative difference of output and input
// gradient (the larger) from the same experts decoded one at a time by plain LibTorch, and `twin` =
// the time of that over ours.
#include <algorithm>
#include <chrono>

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/variable.h>

#include "kernels/experts.h"

namespace braid {
namespace {

constexpr int64_t kD = 4096, kF = 2048, kK = 6;

// Codes at random, which encoding 256 experts would take minutes for; values of about 0.02.
ExpertWeights random_experts(int64_t count, int64_t out, int64_t in) {
  std::vector<Weight> each;
  for (int64_t e = 0; e < count; ++e) {
    each.emplace_back(at::empty({out, in / 16}, at::kLong).random_().view(at::kByte),
                      at::randint(119, 121, {out, in / 32}, at::kByte).view(at::kFloat8_e8m0fnu));
  }
  return ExpertWeights(std::move(each));
}

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).norm() / b.norm()).item<double>();
}

struct Pass {
  at::Tensor y, dx;
  double seconds;
};

void measure(benchmark::State& state) {
  const int64_t T = state.range(0), E = state.range(1);
  const auto type = state.range(2) == 1 ? at::kBFloat16 : at::kFloat;
  const auto w1 = random_experts(E, kF, kD), w2 = random_experts(E, kD, kF),
             w3 = random_experts(E, kF, kD);
  const auto x = at::randn({T, kD}).to(type), dy = at::randn({T, kD}), weights = at::rand({T, kK});
  const auto experts = at::rand({T, E}).argsort(int64_t{1}).narrow(1, 0, kK).contiguous();
  const auto pass = [&](auto* function) {
    const auto begin = std::chrono::steady_clock::now();
    const auto input = x.clone().requires_grad_(true);
    const auto y = function(input, experts, weights, w1, w2, w3, 10.0, ExpertAdapters());
    y.backward(dy);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    return Pass{y.detach(), input.grad(), seconds.count()};
  };
  double best = 1e9;
  Pass ours;
  const auto before = product_times();
  for (auto _ : state) {
    ours = pass(&routed_experts);
    best = std::min(best, ours.seconds);
  }
  const double decoding = product_times().decoding - before.decoding,
               multiplying = product_times().multiplying - before.multiplying;
  state.counters["decoding"] = decoding / (decoding + multiplying);
  const auto iterations = static_cast<double>(state.iterations());
  const auto flops = 2.0 * 2 * 3 * kD * kF * kK * static_cast<double>(T);
  state.counters["flops"] = benchmark::Counter(flops * iterations, benchmark::Counter::kIsRate);
  state.SetItemsProcessed(state.iterations() * T);
  if (T == 512 && E == 16 && type == at::kFloat) {
    const auto plain = pass(&routed_experts_reference);
    state.counters["error"] =
        std::max(relative_difference(ours.y, plain.y), relative_difference(ours.dx, plain.dx));
    state.counters["twin"] = plain.seconds / best;
  }
}

BENCHMARK(measure)
    ->ArgsProduct({{512, 2048}, {16, 256}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(2);

}  // namespace
}  // namespace braid
