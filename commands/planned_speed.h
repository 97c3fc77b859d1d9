#pragma once
#include "plan/plan.h"

namespace braid {

/// This machine's GEMM peak (run/gemm_peak.h) for the run's type on the threads that a run of
/// several processes here would have. Takes some 0.2 s.
PlannedSpeed measured_speed(const RunConfig& config);

}  // namespace braid
