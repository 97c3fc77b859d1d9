#include "commands/planned_speed.h"

#include "run/gemm_peak.h"
#include "run/threads.h"

namespace braid {

PlannedSpeed measured_speed(const RunConfig& config) {
  const auto threads = use_threads(config.train.threads);
  constexpr double kSeconds = 0.1;
  const auto [flops, kernel] = gemm_peak(scalar_type(config.train.dtype), at::kCPU, kSeconds);
  return {.peak_flops = flops, .measured = text("measured here on ", threads.text(), ", ", kernel)};
}

}  // namespace braid
