#pragma once
#include <set>
#include <string>
#include <vector>

#include "model/transformer.h"
#include "optim/param_groups.h"
#include "run/config.h"

namespace braid {

/// The model of a run, with its adapters if it has some, without values (model/parameters.h).
Transformer model_without_values(const RunConfig& config);

/// The group of every parameter that gradients could move, and of the routing biases that are
/// frozen (optim/param_groups.h).
std::vector<GroupedParameter> parameter_groups(const Transformer& model, const RunConfig& config);

/// The parameters ("*" for experts) that no step changes, so that a run which begins with another's
/// weights can leave them there: those of optimizer `none`, and tables. Empty where all that
/// gradients could move is trained: a few tables and biases alone are not worth depending on
/// another folder.
std::set<std::string> frozen_parameters(const Parameters& parameters,
                                        const std::vector<GroupedParameter>& groups);

/// Transformer::routing_biases(), undefined also where the bias is frozen.
std::vector<at::Tensor> moving_routing_biases(const Transformer& model,
                                              const std::vector<GroupedParameter>& groups);

/// The same of the configured model.
std::set<std::string> frozen_parameters(const RunConfig& config);

}  // namespace braid
