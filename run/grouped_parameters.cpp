#include "run/grouped_parameters.h"

#include <memory>
#include <set>
#include <utility>

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

std::function<bool(const std::string&)> frozen_parameters(const RunConfig& config) {
  const WithoutValues without_values;
  const Transformer model(config.model, scalar_type(config.train.dtype), /*seed=*/0);
  auto frozen = std::make_shared<std::set<std::string>>();
  for (const auto& grouped : parameter_groups(model, config)) {
    if (grouped.optimizer == OptimizerKind::kNone) {
      frozen->insert(grouped.parameter.name);
    }
  }
  return [frozen](const std::string& name) { return frozen->contains(name); };
}

}  // namespace braid
