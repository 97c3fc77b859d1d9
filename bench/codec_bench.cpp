// Decoding of FP8 and FP4 weights to float32 and bfloat16 against memcpy in the same run. Both are
// counted in bytes read and written. `copy` = bandwidth over that of memcpy of as many bytes.
#include <benchmark/benchmark.h>

#include "bench/copy_bandwidth.h"
#include "kernels/codec.h"

namespace braid {
namespace {

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
