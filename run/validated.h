#pragma once
#include <functional>

#include "run/config.h"

namespace braid {

/// RunConfig::validate(), with the place of the key in every message. `complete` may fill in what
/// the files leave to others before the whole is validated.
RunConfig validated(LoadedConfig<RunConfig> loaded,
                    const std::function<void(LoadedConfig<RunConfig>&)>& complete = {});

}  // namespace braid
