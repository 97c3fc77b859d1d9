#pragma once
#include <string>
#include <vector>

#include "run/config.h"

namespace braid {

/// What a configuration implies that its author may not expect, one sentence each: parameters that
/// get no gradient at any step, and a learning rate that does not reach its peak. Empty for most.
std::vector<std::string> notes_at_start(const RunConfig& config);

}  // namespace braid
