#include "run/grouped_parameters.h"

#include "core/parameter_names.h"
#include "run/regime.h"

namespace braid {

std::vector<GroupedParameter> parameter_groups(const Transformer& model, const RunConfig& config) {
  std::vector<NamedTensor> trained;
  for (const auto& parameter : model.parameters().all()) {
    if (parameter.trained) {
      trained.push_back({parameter.name, parameter.value});
    }
  }
  const GroupingFacts facts{.num_heads = config.model.num_attention_heads,
                            .num_output_groups = config.model.o_groups,
                            .trained = ever_trained(config)};
  return group_parameters(trained, facts, config.optimizer);
}

std::set<std::string> frozen_parameters(const Parameters& parameters,
                                        const std::vector<GroupedParameter>& groups,
                                        const RunConfig& config) {
  std::set<std::string> frozen;
  for (const auto& grouped : groups) {
    if (grouped.is_frozen()) {
      frozen.insert(grouped.parameter.name);
    }
  }
  if (frozen.empty()) {
    return {};
  }
  const bool biases_move = ever_trained(config).contains(TrainedPart::kTrunk);
  for (const auto& parameter : parameters.all()) {
    const bool is_table = kind_of(parameter.name)->role == ParameterRole::kTable;
    if (!parameter.trained && (is_table || !biases_move)) {
      frozen.insert(parameter.name);
    }
  }
  return frozen;
}

std::set<std::string> frozen_parameters(const RunConfig& config) {
  const WithoutValues without_values;
  const Transformer model(config.model, scalar_type(config.train.dtype), /*seed=*/0);
  return frozen_parameters(model.parameters(), parameter_groups(model, config), config);
}

}  // namespace braid
