// What compressed attention needs beside attention itself, at the sizes of bench/peer.yaml (4 index
// heads x 32, 8 heads x 64, one entry for 4 tokens, top 64), forward and backward. Argument:
// tokens of one sequence. Counters: `twin` = the time of the plain LibTorch twin over ours; of the
// choice, GFLOP/s of its products and of a large matrix product in the same run.
#include <chrono>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/variable.h>

#include "kernels/compress.h"
#include "kernels/gemm.h"
#include "kernels/index_topk.h"
#include "kernels/indexer_kl.h"
#include "kernels/routing.h"

namespace braid {
namespace {

constexpr int64_t kHeads = 8, kH = 64, kIndexHeads = 4, kIndexH = 32, kRatio = 4, kTop = 64,
                  kWindow = 32;

double seconds_of(const auto& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The best time of ours; the twin's, measured once, over it.
void compare(benchmark::State& state, const auto& ours, const auto& twin) {
  double best = 1e9;
  for (auto _ : state) {
    best = std::min(best, seconds_of(ours));
  }
  state.counters["twin"] = seconds_of(twin) / best;
  state.counters["threads"] = at::get_num_threads();
}

// In one document: entries that are complete.
KeyRange visible(int64_t S) {
  const auto end = at::arange(1, S + 1, at::kLong).div(kRatio, "floor").unsqueeze(0);
  return {at::zeros_like(end), end};
}

IndexParts index_parts(int64_t S, at::ScalarType type = at::kFloat) {
  return {at::randn({1, S, kIndexHeads, kIndexH}).to(type),
          at::randn({1, S / kRatio, kIndexH}).to(type),
          at::randn({1, S, kIndexHeads})};
}

void choice(benchmark::State& state, at::ScalarType type) {
  const int64_t S = state.range(0);
  const auto index = index_parts(S, type);
  const auto range = visible(S);
  const auto a = at::randn({1024, 1024}).to(type), b = at::randn({1024, 1024}).to(type);
  auto c = at::empty({1024, 1024}, a.options());
  double ours = 1e9, product = 1e9;
  for (auto _ : state) {
    ours = std::min(ours, seconds_of([&] {
                      index_topk(index.q_BSIH, index.keys_BCH, index.weight_BSI, range, kTop);
                    }));
    product = std::min(product, seconds_of([&] { multiply(a, b, c); }));
  }
  const double pairs = range.end_BS.sum().item<double>();
  state.counters["GFLOP/s"] = 2e-9 * pairs * kIndexHeads * kIndexH / ours;
  state.counters["product"] = 2e-9 * std::pow(1024.0, 3) / product;
  state.counters["threads"] = at::get_num_threads();
}
void choice_sizes(benchmark::internal::Benchmark* b) {
  b->Arg(4096)->Arg(16384)->Arg(65536)->Unit(benchmark::kMillisecond)->Iterations(3);
}
BENCHMARK_CAPTURE(choice, float32, at::kFloat)->Apply(choice_sizes);
BENCHMARK_CAPTURE(choice, bfloat16, at::kBFloat16)->Apply(choice_sizes);

void loss(benchmark::State& state, bool dense) {
  const int64_t S = state.range(0), C = S / kRatio;
  const auto end = at::arange(1, S + 1, at::kLong).unsqueeze(0);
  const AttentionTeacher teacher{at::randn({1, S, kHeads, kH}),
                                 at::randn({1, S, kH}),
                                 at::randn({1, C, kH}),
                                 at::randn({kHeads}),
                                 {(end - kWindow).clamp_min(0), end},
                                 0.125};
  const auto index = index_parts(S);
  SeenEntries seen{visible(S), {}};
  if (!dense) {
    seen.chosen_BSK = index_topk(index.q_BSIH, index.keys_BCH, index.weight_BSI, seen.range, kTop);
  }
  const auto pass = [&](auto* function) {
    const auto again = [](const at::Tensor& t) { return t.detach().requires_grad_(true); };
    function({again(index.q_BSIH), again(index.keys_BCH), again(index.weight_BSI)},
             teacher,
             seen,
             dense ? kTop : 0)
        .kl_sum.backward();
  };
  compare(
      state, [&] { pass(indexer_kl); }, [&] { pass(indexer_kl_reference); });
}
BENCHMARK_CAPTURE(loss, dense, true)->Arg(2048)->Unit(benchmark::kMillisecond)->Iterations(3);
BENCHMARK_CAPTURE(loss, chosen, false)->Arg(2048)->Unit(benchmark::kMillisecond)->Iterations(3);

void pooling(benchmark::State& state, bool overlap) {
  const int64_t S = state.range(0), R = overlap ? kRatio : 16, width = overlap ? 2 * kH : kH;
  const auto rows = at::arange(S, at::kLong).view({1, S / R, R});
  PooledRows pooled{rows, {}, {}};
  if (overlap) {
    pooled = {rows, (rows - R).clamp_min(0), rows.select(2, 0) > 0};
  }
  const auto projected = at::randn({1, S, 2 * width}).requires_grad_(true),
             ape = at::randn({R, width}).requires_grad_(true), de = at::randn({1, S / R, kH});
  const auto pass = [&](auto* function) {
    projected.mutable_grad().reset();
    function(projected, ape, pooled).backward(de);
  };
  compare(
      state, [&] { pass(compress); }, [&] { pass(compress_reference); });
}
BENCHMARK_CAPTURE(pooling, csa, true)->Arg(8192)->Unit(benchmark::kMillisecond)->Iterations(5);
BENCHMARK_CAPTURE(pooling, hca, false)->Arg(8192)->Unit(benchmark::kMillisecond)->Iterations(5);

void routing(benchmark::State& state) {
  const int64_t T = state.range(0), E = state.range(1);
  const auto logits = at::randn({T, E}).requires_grad_(true), dweights = at::randn({T, 2});
  const ExpertChoice choice{.picks = 2, .bias_E = at::zeros({E})};
  const auto pass = [&](auto* function) {
    function(logits, choice, 1.5).weights_TK.backward(dweights);
  };
  compare(
      state, [&] { pass(route); }, [&] { pass(route_reference); });
}
BENCHMARK(routing)
    ->Args({8192, 8})
    ->Args({8192, 256})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(5);

}  // namespace
}  // namespace braid
