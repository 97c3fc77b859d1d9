// Muon's step on the matrices of a model (default bench/wide.yaml), against the time that its
// matrix products need at the GEMM peak of the same run, symmetric ones counted half. With
// `bfloat16` both multiply in that.
//
//   muon_bench [CONFIG.yaml [bfloat16]]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "model/transformer.h"
#include "optim/muon.h"
#include "run/config.h"
#include "run/gemm_peak.h"
#include "run/grouped_parameters.h"

namespace braid {
namespace {

// Stacks by shape of their matrices, with random gradients.
std::map<std::pair<int64_t, int64_t>, std::vector<MuonStack>> stacks_of(const RunConfig& config) {
  const WithoutValues without_values;
  const Transformer model(config.model, at::kFloat, /*seed=*/0);
  std::map<std::pair<int64_t, int64_t>, std::vector<MuonStack>> stacks;
  for (const auto& grouped : parameter_groups(model, config)) {
    if (grouped.optimizer == OptimizerKind::kMuon) {
      const auto sizes = matrices_of(grouped, grouped.parameter.value).sizes().vec();
      stacks[{sizes[1], sizes[2]}].push_back(
          {at::randn(sizes) * 0.02, at::randn(sizes), at::zeros(sizes), 1e-3, 0.1});
    }
  }
  return stacks;
}

double seconds_of(const auto& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void run(const std::string& path, bool bf16) {
  const auto config = load_run_config(path, {"data.train=[x]", "optimizer.groups=[]"});
  const auto stacks = stacks_of(config);
  const auto peak = gemm_peak(bf16 ? at::kBFloat16 : at::kFloat);
  std::printf("GEMM peak %.1f GFLOP/s (%s, %s, %d threads)\n",
              peak.flops / 1e9,
              peak.kernel.c_str(),
              bf16 ? "bfloat16" : "float32",
              at::get_num_threads());
  for (const auto& [iterations, gram] :
       {std::pair<int64_t, bool>{10, false}, {10, true}, {5, false}, {5, true}}) {
    const char* form = gram ? " in Gram form" : "";
    const MuonConfig muon{.newton_schulz_steps = iterations * 8 / 10,
                          .newton_schulz_final_steps = iterations - iterations * 8 / 10,
                          .newton_schulz_gram = gram ? GramForm::kAlways : GramForm::kNever,
                          .bfloat16_products = bf16};
    double all_seconds = 0, all_least = 0;
    for (const auto& [shape, list] : stacks) {
      int64_t count = 0;
      for (const auto& stack : list) {
        count += stack.value_Brc.size(0);
      }
      const auto step = [&, &stacks_of_shape = list] { muon_step(stacks_of_shape, 1, muon); };
      step();  // the library compiles its kernels
      double best = 1e9;
      for (int i = 0; i < 3; ++i) {
        best = std::min(best, seconds_of(step));
      }
      const auto options = newton_schulz_options(muon);
      const double least = static_cast<double>(count) *
                           newton_schulz_flops(shape.first, shape.second, options).least /
                           peak.flops;
      std::printf("%2lld iterations%s, %4lld of %4lld x %4lld: %8.2f ms, %.2f times its products\n",
                  static_cast<long long>(iterations),
                  form,
                  static_cast<long long>(count),
                  static_cast<long long>(shape.first),
                  static_cast<long long>(shape.second),
                  1e3 * best,
                  best / least);
      all_seconds += best;
      all_least += least;
    }
    std::printf("%2lld iterations%s, all: %.2f ms, %.2f times its products at GEMM peak\n",
                static_cast<long long>(iterations),
                form,
                1e3 * all_seconds,
                all_seconds / all_least);
  }
}

}  // namespace
}  // namespace braid

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "bench/wide.yaml", type = argc > 2 ? argv[2] : "";
  if (argc > 3 || !(type.empty() || type == "bfloat16")) {
    std::fprintf(stderr, "usage: %s [CONFIG.yaml [bfloat16]]\n", argv[0]);
    return 2;
  }
  try {
    braid::run(path, !type.empty());
  } catch (const braid::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
