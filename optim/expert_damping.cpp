#include "optim/expert_damping.h"

#include <algorithm>
#include <charconv>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/parameter_names.h"

namespace braid {
namespace {

constexpr double kLongOverShort = 10;  // the long mean's memory, in that of the short one

}  // namespace

ExpertDamping::ExpertDamping(const std::vector<GroupedParameter>& parameters, double momentum)
    : keep_short_(momentum), keep_long_(1 - (1 - momentum) / kLongOverShort) {
  for (const auto& grouped : parameters) {
    const auto& [name, value] = grouped.parameter;
    const auto [block, leaf] = split_block(name);
    if (leaf == "ffn.gate.weight") {
      layer_of_block_.emplace(block, layers_.size());
      layers_.push_back({std::string(block), at::zeros({2, value.size(0)}, at::kDouble)});
    }
  }
}

void ExpertDamping::received(const std::vector<at::Tensor>& load_E) {
  require(load_E.size() == layers_.size(),
          "[expert_damping] loads of ",
          load_E.size(),
          " layers, the model has ",
          layers_.size());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const int64_t experts = layers_[i].received_2E.size(1);
    const auto load = load_E[i].contiguous();
    require(load.numel() == experts && load.scalar_type() == at::kDouble,
            "[expert_damping] expected loads [",
            experts,
            "] in float64, got ",
            load.scalar_type(),
            " ",
            load.sizes());
    const double* tokens = load.const_data_ptr<double>();
    double* means = layers_[i].received_2E.mutable_data_ptr<double>();
    for (int64_t e = 0; e < experts; ++e) {
      means[e] = keep_short_ * means[e] + (1 - keep_short_) * tokens[e];
      means[experts + e] = keep_long_ * means[experts + e] + (1 - keep_long_) * tokens[e];
    }
  }
}

double ExpertDamping::factor(const std::string& name) const {
  const auto parsed = parsed_name(name);
  require(parsed.has_value() && layer_of_block_.contains(parsed->block),
          "[expert_damping] ",
          name,
          " is no expert's weight in a layer with a router");
  int64_t expert = 0;
  std::from_chars(parsed->expert.data(), parsed->expert.data() + parsed->expert.size(), expert);
  const auto& received = layers_[layer_of_block_.find(parsed->block)->second].received_2E;
  const double* means = received.const_data_ptr<double>();
  const double short_mean = means[expert], long_mean = means[received.size(1) + expert];
  return long_mean > 0 ? std::min(1.0, short_mean / long_mean) : 0;
}

std::vector<NamedTensor> ExpertDamping::state() const {
  std::vector<NamedTensor> state;
  for (const auto& [block, received_2E] : layers_) {
    state.push_back({block + "ffn.gate.weight/received", received_2E});
  }
  return state;
}

}  // namespace braid
