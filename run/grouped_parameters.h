#pragma once
#include <functional>
#include <vector>

#include "model/transformer.h"
#include "optim/param_groups.h"
#include "run/config.h"

namespace braid {

/// The group of every parameter that gradients could move.
std::vector<GroupedParameter> parameter_groups(const Transformer& model, const RunConfig& config);

/// Whether a parameter ("*" for experts) is never trained, so that it may stay quantized.
std::function<bool(const std::string&)> frozen_parameters(const RunConfig& config);

}  // namespace braid
