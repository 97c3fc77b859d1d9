// Decoding of FP8 and FP4 weights to float32 and bfloat16 against memcpy in the same run. Both are
// counted in bytes read and written. `copy` = bandwidth over that of memcpy of as many bytes.
#include <chrono>
#include <cstring>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include "kernels/codec.h"

namespace braid {
namespace {

double seconds_of(const auto& action) {
  const auto begin = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Bytes that memcpy reads and writes in a second, on the threads that decode has.
double copy_bandwidth(int64_t bytes) {
  const auto from = at::ones({bytes / 2}, at::kByte);
  auto to = at::empty_like(from);
  const auto copy = [&] {
    at::parallel_for(0, from.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
      std::memcpy(
          to.data_ptr<uint8_t>() + begin, from.const_data_ptr<uint8_t>() + begin, end - begin);
    });
  };
  copy();
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    best = std::min(best, seconds_of(copy));
  }
  return static_cast<double>(from.nbytes() * 2) / best;
}

void measure(benchmark::State& state, bool fp8, at::ScalarType type) {
  const auto w = at::randn({state.range(0), state.range(1)}) * 0.02;
  const auto codes = fp8 ? encode_fp8(w, at::kFloat8_e8m0fnu) : encode_fp4(w);
  auto out = at::empty(w.sizes(), type);
  decode_block(codes, 0, 0, out);
  const auto bytes =
      static_cast<double>(codes.values.nbytes() + codes.scales.nbytes() + out.nbytes());
  const double copying = copy_bandwidth(static_cast<int64_t>(bytes));
  double best = 1e9;
  for (auto _ : state) {
    best = std::min(best, seconds_of([&] { decode_block(codes, 0, 0, out); }));
  }
  state.counters["GB/s"] = bytes / best / 1e9;
  state.counters["copy"] = bytes / best / copying;
}

BENCHMARK_CAPTURE(measure, fp8_to_float32, true, at::kFloat)->Args({8192, 4096});
BENCHMARK_CAPTURE(measure, fp8_to_bfloat16, true, at::kBFloat16)->Args({8192, 4096});
BENCHMARK_CAPTURE(measure, fp4_to_float32, false, at::kFloat)->Args({8192, 4096});
BENCHMARK_CAPTURE(measure, fp4_to_bfloat16, false, at::kBFloat16)->Args({8192, 4096});

}  // namespace
}  // namespace braid
