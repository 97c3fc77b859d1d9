// Kernels at the sizes of bench/wide.yaml, 8 x 1024 tokens, float32 where nothing else is said,
// forward and backward where there is a backward. Counters, of the best run: GFLOP/s of matrix
// products and their share of the GEMM peak, or GB/s of the tensors that must be read and written
// at least and their share of the bandwidth of memcpy; peak and bandwidth as measured when the
// program starts.
#include <cmath>
#include <functional>

#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/variable.h>

#include "bench/copy_bandwidth.h"
#include "core/profile.h"
#include "kernels/attention.h"
#include "kernels/index_topk.h"
#include "kernels/mhc.h"
#include "kernels/rms_norm.h"
#include "kernels/sinkhorn.h"
#include "kernels/streams.h"
#include "kernels/swiglu.h"
#include "optim/adamw.h"
#include "optim/clip.h"
#include "run/gemm_peak.h"
#include "run/memory.h"

namespace braid {
namespace {

constexpr int64_t kB = 8, kS = 1024, kD = 512, kHeads = 8, kHeadDim = 64, kWindow = 32, kRatio = 4,
                  kTopK = 64;

// Every query sees what is complete: `keys` of them, each over `ratio` tokens, `most` at a time.
KeyRange causal(int64_t ratio, int64_t most) {
  const auto end = at::arange(1, kS + 1, at::kLong).div(ratio, "floor").expand({kB, kS});
  return {(end - most).clamp_min(0).contiguous(), end.contiguous()};
}

at::Tensor input(at::IntArrayRef sizes) {
  return at::randn(sizes).requires_grad_(true);
}

// By bytes where they are given, else by what its matrix products count.
void measure(benchmark::State& state, double bytes, const std::function<void()>& run) {
  static const double peak = gemm_peak(at::kFloat).flops;
  static const double bandwidth = copy_bandwidth(int64_t{1} << 28);
  run();
  double best = 1e9, flops = 0;
  for (auto _ : state) {
    Profile profile;
    best = std::min(best, seconds_of(run));
    profile.end_step();
    flops = static_cast<double>(profile.parts().front().phases[3].flops);
  }
  if (bytes == 0) {
    state.counters["GFLOP/s"] = flops / best / 1e9;
    state.counters["of_peak"] = flops / best / peak;
  } else {
    state.counters["GB/s"] = bytes / best / 1e9;
    state.counters["of_copy"] = bytes / best / bandwidth;
  }
}

double bytes_of(std::initializer_list<at::Tensor> tensors) {
  double bytes = 0;
  for (const auto& tensor : tensors) {
    bytes += static_cast<double>(tensor.nbytes());
  }
  return bytes;
}

enum class By { kProducts, kBytes };

// The backward pass reads the inputs and the output's gradient and writes the inputs' gradients.
void forward_backward(benchmark::State& state,
                      By by,
                      const std::vector<at::Tensor>& inputs,
                      const std::function<at::Tensor()>& forward) {
  const auto dy = at::randn_like(forward());
  double bytes = 2 * bytes_of({dy});
  for (const auto& x : inputs) {
    bytes += 3 * bytes_of({x});
  }
  measure(state, by == By::kBytes ? bytes : 0, [&] {
    for (const auto& x : inputs) {
      x.mutable_grad().reset();
    }
    forward().backward(dy);
  });
}

enum class Entries { kNone, kAll, kChosen };

void attend(benchmark::State& state, Entries kind) {
  const int64_t C = kind == Entries::kNone ? 0 : kS / kRatio;
  const auto q = input({kB, kS, kHeads, kHeadDim}), kv = input({kB, kS, kHeadDim}),
             entries = input({kB, C, kHeadDim}), sink = input({kHeads});
  const auto none = at::zeros({kB, kS}, at::kLong);
  SeenEntries seen{kind == Entries::kNone ? KeyRange{none, none} : causal(kRatio, C), {}};
  if (kind == Entries::kChosen) {
    seen.chosen_BSK = index_topk(at::randn({kB, kS, 4, 32}),
                                 at::randn({kB, C, 32}),
                                 at::randn({kB, kS, 4}),
                                 seen.range,
                                 kTopK);
  }
  forward_backward(state, By::kProducts, {q, kv, entries, sink}, [&] {
    return attention(q, kv, entries, sink, causal(1, kWindow), seen, 1 / std::sqrt(64.0));
  });
}
BENCHMARK_CAPTURE(attend, window, Entries::kNone);
BENCHMARK_CAPTURE(attend, all_entries, Entries::kAll);
BENCHMARK_CAPTURE(attend, chosen_entries, Entries::kChosen);

void choose(benchmark::State& state) {
  const auto q = at::randn({kB, kS, 4, 32}), keys = at::randn({kB, kS / kRatio, 32}),
             weight = at::randn({kB, kS, 4});
  const auto visible = causal(kRatio, kS);
  measure(state, 0, [&] { index_topk(q, keys, weight, visible, kTopK); });
}
BENCHMARK(choose);

void sinkhorn_20(benchmark::State& state) {
  const auto logits = input({kB * kS, 4, 4});
  forward_backward(state, By::kBytes, {logits}, [&] { return sinkhorn(logits, 20, 1e-6); });
}
BENCHMARK(sinkhorn_20);

// In front of a sublayer that gives its input back, and behind it.
void mix_streams(benchmark::State& state, at::ScalarType type) {
  constexpr int64_t kM = 4, kK = (2 + kM) * kM;
  const auto X = at::randn({kB * kS, kM, kD}).to(type).requires_grad_(true);
  const MhcWeights weights{input({kK, kM * kD}), input({kK}), input({3})};
  const auto norm_weight = input({kD});
  forward_backward(state, By::kBytes, {X, X}, [&] {
    const auto entered = enter_streams(X, weights, norm_weight, {});
    return expand_streams(entered.X_TMD, entered.h_TD, entered.post_TM, entered.mix_TMM);
  });
}
BENCHMARK_CAPTURE(mix_streams, float32, at::kFloat);
BENCHMARK_CAPTURE(mix_streams, bfloat16, at::kBFloat16);

void norm(benchmark::State& state) {
  const auto x = input({kB * kS, kD}), weight = input({kD});
  forward_backward(state, By::kBytes, {x, weight}, [&] { return rms_norm(x, weight, 1e-6); });
}
BENCHMARK(norm);

void swiglu(benchmark::State& state) {
  const auto gate = input({2 * kB * kS, 256}), up = input({2 * kB * kS, 256});
  forward_backward(state, By::kBytes, {gate, up}, [&] { return clamped_swiglu(gate, up, 10); });
}
BENCHMARK(swiglu);

void adamw(benchmark::State& state) {
  const auto w = at::randn({1 << 23}), g = at::randn_like(w), m = at::zeros_like(w),
             v = at::zeros_like(w);
  const double bytes = 7 * bytes_of({w});
  measure(state, bytes, [&] { adamw_update({{w, g, m, v, {1, 1e-3, 0.1}}}, {}); });
}
BENCHMARK(adamw);

void gradient_norm(benchmark::State& state) {
  const auto g = at::randn({1 << 23});
  measure(state, bytes_of({g}), [&] { benchmark::DoNotOptimize(squared_norm(g)); });
}
BENCHMARK(gradient_norm);

}  // namespace
}  // namespace braid

int main(int argc, char** argv) {
  braid::TensorMemory::watch();  // as in training: memory that is given back stays
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 1;
  }
  benchmark::RunSpecifiedBenchmarks();
}
