#include "run/grouped_parameters.h"

#include <algorithm>

#include "core/parameter_names.h"
#include "run/regime.h"

namespace braid {

Transformer model_without_values(const RunConfig& config) {
  const WithoutValues without_values;
  return {config.model,
          scalar_type(config.train.dtype),
          /*seed=*/0,
          nullptr,
          {},
          at::kCPU,
          config.lora()};
}

std::vector<GroupedParameter> parameter_groups(const Transformer& model, const RunConfig& config) {
  std::vector<NamedTensor> parameters;
  for (const auto& parameter : model.parameters().all()) {
    parameters.push_back({parameter.name, parameter.value});
  }
  const GroupingFacts facts{
      .num_heads = config.model.num_attention_heads,
      .num_output_groups = config.model.o_groups,
      .trained = ever_trained(config),
      .may_train = [&config](const std::string& name) { return config.may_train(name); }};
  return group_parameters(parameters, facts, config.optimizer);
}

std::set<std::string> frozen_parameters(const Parameters& parameters,
                                        const std::vector<GroupedParameter>& groups) {
  const auto takes_gradients = [](const std::string& name) {
    return kind_of(name)->optimizer != OptimizerKind::kNone;
  };
  std::set<std::string> frozen;
  bool worth_it = false;
  for (const auto& grouped : groups) {
    if (grouped.is_frozen()) {
      frozen.insert(grouped.parameter.name);
      worth_it |= takes_gradients(grouped.parameter.name);
    }
  }
  if (!worth_it) {
    return {};
  }
  for (const auto& parameter : parameters.all()) {
    if (kind_of(parameter.name)->role == ParameterRole::kTable) {
      frozen.insert(parameter.name);
    }
  }
  return frozen;
}

std::set<std::string> frozen_parameters(const RunConfig& config) {
  const auto model = model_without_values(config);
  return frozen_parameters(model.parameters(), parameter_groups(model, config));
}

std::vector<at::Tensor> moving_routing_biases(const Transformer& model,
                                              const std::vector<GroupedParameter>& groups) {
  auto biases = model.routing_biases();
  for (auto& bias : biases) {
    const bool is_frozen = std::ranges::any_of(groups, [&](const GroupedParameter& grouped) {
      return grouped.parameter.value.is_same(bias);
    });
    bias = is_frozen ? at::Tensor() : bias;
  }
  return biases;
}

}  // namespace braid
