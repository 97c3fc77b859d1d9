#include "optim/muon.h"

namespace braid {
namespace {

MuonUpdate update_of(const MuonConfig& config, double gradient_scale) {
  return {.momentum = config.momentum,
          .update_rms = config.update_rms,
          .gradient_scale = gradient_scale,
          .newton_schulz = newton_schulz_options(config)};
}

}  // namespace

NewtonSchulzOptions newton_schulz_options(const MuonConfig& config) {
  return {.steps = config.newton_schulz_steps,
          .final_steps = config.newton_schulz_final_steps,
          .bfloat16_products = config.bfloat16_products,
          .gram = config.newton_schulz_gram};
}

void muon_step(const std::vector<MuonStack>& stacks,
               double gradient_scale,
               const MuonConfig& config) {
  update_by_muon(stacks, update_of(config, gradient_scale));
}

void muon_step_reference(const MuonStack& stack, double gradient_scale, const MuonConfig& config) {
  update_by_muon_reference(stack, update_of(config, gradient_scale));
}

}  // namespace braid
