#include "optim/adamw.h"

namespace braid {
namespace {

AdamWMoments moments_of(const AdamWConfig& config) {
  return {config.beta1, config.beta2, config.epsilon};
}

}  // namespace

void adamw_update(const std::vector<AdamWTensors>& each, const AdamWConfig& config) {
  update_by_adamw(each, moments_of(config));
}

void adamw_update_reference(const std::vector<AdamWTensors>& each, const AdamWConfig& config) {
  update_by_adamw_reference(each, moments_of(config));
}

}  // namespace braid
