#pragma once
#include <string>

#include "run/config.h"

namespace braid {

/// What carries an adapter: for each target of adapter.targets the matrices that it takes, by kind,
/// with rank, alpha, their number and the parameters of their adapters. Empty without adapters.
std::string adapter_table(const RunConfig& config);

}  // namespace braid
