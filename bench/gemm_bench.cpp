// Products of a model's sizes: multiply() in float32 and bfloat16 against at::mm in float32, in the
// same run. Arguments: m, n, k; which matrix is transposed (0 none, 1 b as in y = x W^T, 2 a as in
// dW = dy^T x). The weight of a bfloat16 product is a float32 master, or its gradient is float32.
// Counters: GFLOP/s of each.
#include <chrono>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include "kernels/gemm.h"

namespace braid {
namespace {

double seconds_of(const auto& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void measure(benchmark::State& state) {
  const int64_t m = state.range(0), n = state.range(1), k = state.range(2);
  const auto a = state.range(3) == 2 ? at::randn({k, m}).t() : at::randn({m, k});
  const auto b = state.range(3) == 1 ? at::randn({n, k}).t() : at::randn({k, n});
  const bool gives_gradient = state.range(3) == 2;
  const auto a16 = a.to(at::kBFloat16), b16 = gives_gradient ? b.to(at::kBFloat16) : b;
  auto c = at::zeros({m, n}), c16 = gives_gradient ? c : c.to(at::kBFloat16);
  double ours = 1e9, ours16 = 1e9, library = 1e9;
  for (auto _ : state) {
    ours = std::min(ours, seconds_of([&] { multiply(a, b, c); }));
    ours16 = std::min(ours16, seconds_of([&] { multiply(a16, b16, c16); }));
    library = std::min(library, seconds_of([&] { at::mm_out(c, a, b); }));
  }
  const double operations = 2e-9 * static_cast<double>(m * n * k);
  state.counters["float32"] = operations / ours;
  state.counters["bf16"] = operations / ours16;
  state.counters["at::mm"] = operations / library;
  state.counters["threads"] = at::get_num_threads();
}

void shapes(benchmark::internal::Benchmark* bench) {
  for (const int64_t T : {256, 1024, 8192}) {
    for (const auto& [n, k] : {std::pair{256, 256}, {512, 128}, {512, 512}, {64, 256}}) {
      bench->Args({T, n, k, 1});  // y = x W^T
      bench->Args({T, k, n, 0});  // dx = dy W
      bench->Args({n, k, T, 2});  // dW = dy^T x
    }
  }
  bench->Args({24, 1024, 1024, 2})->Args({1024, 24, 1024, 1})->Args({1024, 1024, 1024, 0});
}
BENCHMARK(measure)->Apply(shapes)->MinTime(0.05)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace braid
