#pragma once
// Muon as DeepSeek-V4 uses it (report, Algorithm 1).
#include <vector>

#include "kernels/update.h"
#include "optim/config.h"

namespace braid {

NewtonSchulzOptions newton_schulz_options(const MuonConfig& config);

/// update_by_muon() with the configured numbers.
void muon_step(const std::vector<MuonStack>& stacks,
               double gradient_scale,
               const MuonConfig& config);
/// The same of one stack, in plain LibTorch.
void muon_step_reference(const MuonStack& stack, double gradient_scale, const MuonConfig& config);

}  // namespace braid
