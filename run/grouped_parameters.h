#pragma once
#include <set>
#include <string>
#include <vector>

#include "model/transformer.h"
#include "optim/param_groups.h"
#include "run/config.h"

namespace braid {

/// The group of every parameter that gradients could move.
std::vector<GroupedParameter> parameter_groups(const Transformer& model, const RunConfig& config);

/// The parameters ("*" for experts) that no step changes, so that a run which begins with another's
/// weights can leave them there: those of optimizer `none`, tables, and routing biases where the
/// trunk is not trained. Empty where all that gradients could move is trained: a few tables alone
/// are not worth depending on another folder.
std::set<std::string> frozen_parameters(const Parameters& parameters,
                                        const std::vector<GroupedParameter>& groups,
                                        const RunConfig& config);

/// The same of the configured model.
std::set<std::string> frozen_parameters(const RunConfig& config);

}  // namespace braid
