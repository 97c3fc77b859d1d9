#include "train/idle_experts.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace braid {

IdleExperts::IdleExperts(const ModelConfig& config) {
  const auto add = [&](const std::string& block) {
    idle_steps_E_.push_back(
        {block + "ffn.idle_steps", at::zeros({config.n_routed_experts}, at::kLong)});
  };
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    add(text("layers.", i, "."));
  }
  if (config.num_nextn_predict_layers > 0) {
    add("mtp.0.");
  }
}

void IdleExperts::received(const std::vector<at::Tensor>& load_E) {
  require(load_E.size() == idle_steps_E_.size(),
          "[idle experts] loads of ",
          load_E.size(),
          " layers, the model has ",
          idle_steps_E_.size());
  for (std::size_t i = 0; i < load_E.size(); ++i) {
    auto& idle_E = idle_steps_E_[i].value;
    idle_E.add_(1).mul_(load_E[i] == 0);
  }
}

int64_t IdleExperts::dead(std::size_t layer, int64_t steps) const {
  return (idle_steps_E_.at(layer).value >= steps).sum().item<int64_t>();
}

}  // namespace braid
