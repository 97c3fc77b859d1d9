// The head's loss, forward and backward, in chunks and whole. Arguments: tokens, hidden size,
// vocabulary. Counters: `extra` = peak memory beyond inputs and gradients, as a share of the logits
// in float32; `gemm` = its three products alone, as at::mm computes them, over the time it took.
#include <chrono>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/variable.h>

#include "kernels/cross_entropy.h"
#include "run/memory.h"

namespace braid {
namespace {

using Loss = at::Tensor (*)(const at::Tensor&, const at::Tensor&, const at::Tensor&);

at::Tensor in_chunks(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets) {
  return cross_entropy_sum(hidden, head, targets);
}

at::Tensor whole(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets) {
  return cross_entropy_sum_reference(hidden, head, targets);
}

// Seconds of logits, and of both gradients from them, the way a plain implementation has to.
double product_seconds(const at::Tensor& hidden, const at::Tensor& head) {
  const at::NoGradGuard no_grad;
  const auto begin = std::chrono::steady_clock::now();
  const auto logits = at::mm(hidden, head.t());
  benchmark::DoNotOptimize(at::mm(logits, head).data_ptr());
  benchmark::DoNotOptimize(at::mm(logits.t(), hidden).data_ptr());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void measure(benchmark::State& state, Loss loss) {
  TensorMemory::watch();
  const int64_t T = state.range(0), D = state.range(1), V = state.range(2);
  const auto hidden = at::randn({T, D}).requires_grad_(true);
  const auto head = (at::randn({V, D}) * 0.02).requires_grad_(true);
  const auto targets = at::randint(V, {T}, at::kLong);
  const auto step = [&] {
    hidden.mutable_grad().reset();
    head.mutable_grad().reset();
    loss(hidden, head, targets).backward();
  };
  step();  // warms up
  product_seconds(hidden, head);
  const double products = product_seconds(hidden, head);
  hidden.mutable_grad().reset();
  head.mutable_grad().reset();
  const int64_t before = TensorMemory::now();
  TensorMemory::take_peak();
  double seconds = 0;
  for (auto _ : state) {
    const auto begin = std::chrono::steady_clock::now();
    step();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  const auto gradients = static_cast<double>(hidden.nbytes() + head.nbytes());
  const auto extra = static_cast<double>(TensorMemory::take_peak() - before) - gradients;
  state.counters["extra"] = extra / (4.0 * static_cast<double>(T * V));
  state.counters["gemm"] = products * static_cast<double>(state.iterations()) / seconds;
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->Unit(benchmark::kMillisecond)->UseRealTime()->ArgNames({"T", "D", "V"});
  bench->Args({4096, 512, 129280})->Args({4096, 1024, 129280})->Args({16384, 256, 512});
}

BENCHMARK_CAPTURE(measure, in_chunks, in_chunks)->Apply(sizes);
BENCHMARK_CAPTURE(measure, whole, whole)->Apply(sizes);

}  // namespace
}  // namespace braid
