#pragma once
#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "core/profile.h"
#include "run/gemm_peak.h"

namespace braid {

/// Where the time of a run's steps goes and which share of the machine's peak they reach. The first
/// step, which includes warming up, is not counted. On a device the host waits wherever one part
/// ends and the next begins: parts have their own times, and the whole is somewhat slower than it
/// is unmeasured.
class StepProfile {
 public:
  /// Measures the GEMM peak, then from here on the calling thread. Of several ranks, the parts are
  /// this rank's times; rates are of all ranks, against the sum of their peaks.
  StepProfile(at::ScalarType dtype, int64_t ranks, at::Device device);

  void begin_step();
  /// `tokens`: targets that counted; `model_flops`: what plan/flops.h counts of the step.
  void end_step(int64_t tokens, double model_flops);

  /// steps; threads, ranks, device, dtype; gemm_peak {flops_per_second, kernel}; per step: seconds,
  /// tokens, model_flops; tokens_per_second, model_flops_utilisation; peak_memory_bytes (of the
  /// process); parts: part, the seconds of each phase, seconds, share, flops (of matrix products).
  nlohmann::ordered_json to_json() const;

 private:
  at::ScalarType dtype_;
  int64_t ranks_;
  at::Device device_;
  GemmPeak peak_;
  Profile profile_;
  int64_t steps_ = -1;  // the first is not counted
  int64_t tokens_ = 0;
  double model_flops_ = 0, seconds_ = 0;
};

/// to_json() as a table for people.
std::string profile_table(const nlohmann::ordered_json& profile);

}  // namespace braid
