// Routed experts of Flash's width, FP4 and frozen, forward and backward, against the same experts
// decoded to float32 one at a time by plain LibTorch. Arguments: tokens, experts. Counters: `error`
// = relative difference of output and input gradient (the larger), `twin` = the time of the plain
// one over ours.
#include <algorithm>
#include <chrono>

#include <ATen/ATen.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/variable.h>

#include "kernels/codec.h"
#include "kernels/experts.h"

namespace braid {
namespace {

constexpr int64_t kD = 4096, kF = 2048, kK = 6;

ExpertWeights random_experts(int64_t count, int64_t out, int64_t in) {
  std::vector<Weight> each;
  for (int64_t e = 0; e < count; ++e) {
    const auto codes = encode_fp4(at::randn({out, in}) * 0.02);
    each.emplace_back(codes.values, codes.scales);
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
  const auto w1 = random_experts(E, kF, kD), w2 = random_experts(E, kD, kF),
             w3 = random_experts(E, kF, kD);
  const auto x = at::randn({T, kD}), dy = at::randn({T, kD}), weights = at::rand({T, kK});
  const auto experts = at::rand({T, E}).argsort(int64_t{1}).narrow(1, 0, kK).contiguous();
  const auto pass = [&](auto* function) {
    const auto begin = std::chrono::steady_clock::now();
    const auto input = x.clone().requires_grad_(true);
    const auto y = function(input, experts, weights, w1, w2, w3, 10.0, ExpertAdapters());
    y.backward(dy);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    return Pass{y.detach(), input.grad(), seconds.count()};
  };
  const auto plain = pass(&routed_experts_reference);
  double error = 0, best = 1e9;
  for (auto _ : state) {
    const auto ours = pass(&routed_experts);
    best = std::min(best, ours.seconds);
    error = std::max(relative_difference(ours.y, plain.y), relative_difference(ours.dx, plain.dx));
  }
  state.counters["error"] = error;
  state.counters["twin"] = plain.seconds / best;
}

BENCHMARK(measure)->Args({512, 16})->Unit(benchmark::kMillisecond)->Iterations(3);

}  // namespace
}  // namespace braid
