#include "run/gemm_peak.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/native/CPUBlas.h>

#include "core/error.h"
#include "kernels/cpu/isa.h"
#include "kernels/device.h"
#include "kernels/gemm.h"

namespace braid {
namespace {

using Clock = std::chrono::steady_clock;

struct Candidate {
  std::string kernel;
  double flops = 0;  // of one run
  std::function<void()> run;
};

// The library's block products, each thread over and over on blocks of its own that fit its cache.
Candidate block_products(int64_t m, int64_t n, int64_t k) {
  constexpr int64_t kTimes = 200;
  const int64_t threads = at::get_num_threads();
  const auto a = at::ones({threads, m, k}), b = at::ones({threads, k, n});
  auto c = at::empty({threads, m, n});
  const auto run = [=]() mutable {
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; ++thread) {
        for (int64_t i = 0; i < kTimes; ++i) {
          at::native::cpublas::brgemm(m,
                                      n,
                                      k,
                                      k,
                                      n,
                                      n,
                                      /*add_C=*/false,
                                      a.const_data_ptr<float>() + thread * m * k,
                                      b.const_data_ptr<float>() + thread * k * n,
                                      c.data_ptr<float>() + thread * m * n);
        }
      }
      at::native::cpublas::brgemm_release();
    });
  };
  return {text("brgemm ", m, "x", n, "x", k),
          2.0 * static_cast<double>(threads * kTimes * m * n * k),
          run};
}

Candidate library_product(at::TensorOptions options, int64_t size) {
  const auto a = at::ones({size, size}, options), b = at::ones({size, size}, options);
  return {text("at::mm ", size),
          2.0 * static_cast<double>(size * size * size),
          [a, b, c = at::empty_like(a)]() mutable { at::mm_out(c, a, b); }};
}

Candidate own_product(at::ScalarType type, int64_t size) {
  const auto a = at::ones({size, size}, type), b = at::ones({size, size}, type);
  return {text("multiply ", size),
          2.0 * static_cast<double>(size * size * size),
          [a, b, c = at::empty_like(a)]() mutable { multiply(a, b, c); }};
}

std::vector<Candidate> candidates_of_cpu(at::ScalarType type) {
  std::vector<Candidate> candidates;
  if (type == at::kFloat) {
    candidates.push_back(block_products(64, 64, 256));
    candidates.push_back(block_products(128, 128, 128));
  }
  candidates.push_back(own_product(type, 1024));
  // Without the instructions the library takes seconds for one product in bfloat16.
  if (type != at::kBFloat16 || has_bf16_products()) {
    candidates.push_back(library_product(type, 1024));
    if (type == at::kBFloat16) {
      candidates.push_back(library_product(type, 2048));
    }
  }
  return candidates;
}

// Large enough to fill it, small enough for any: 1.6 GB of three float64 matrices.
std::vector<Candidate> candidates_of_device(at::TensorOptions options) {
  return options.device().is_cuda()
             ? std::vector{library_product(options, 4096), library_product(options, 8192)}
             : std::vector{library_product(options, 256)};
}

}  // namespace

GemmPeak gemm_peak(at::ScalarType type, at::Device device, double seconds) {
  const at::NoGradGuard no_grad;
  const auto candidates = device.is_cpu()
                              ? candidates_of_cpu(type)
                              : candidates_of_device(at::TensorOptions(device).dtype(type));
  GemmPeak peak;
  for (const auto& candidate : candidates) {
    candidate.run();  // warms up
    wait_for(device);
    const auto end = Clock::now() + std::chrono::duration<double>(
                                        seconds / static_cast<double>(candidates.size()));
    do {
      const auto begin = Clock::now();
      candidate.run();
      wait_for(device);
      const double flops =
          candidate.flops / std::chrono::duration<double>(Clock::now() - begin).count();
      if (flops > peak.flops) {
        peak = {flops, candidate.kernel};
      }
    } while (Clock::now() < end);
  }
  return peak;
}

}  // namespace braid
