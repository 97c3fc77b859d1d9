#pragma once
// A run that starts from another model (run.init_from) takes its architecture from there, too: what
// no shape shows (window, rotary base, epsilons, scaling, top-k) would otherwise differ silently
// from what the weights were made for.
#include <string>
#include <vector>

#include "run/config.h"

namespace braid {

/// load_run_config(), with the section `model` completed. `resume` is that of the train command
/// (auto, none, or a checkpoint's folder).
///
/// A run at step 0 with run.init_from: keys that the files leave out, or all with `model:
/// from_base`, are the base's. A key that is written and contradicts the base is an error with both
/// values and both files, unless model.override names it. Keys that the weights do not depend on
/// (kFreeModelKeys) may differ.
///
/// A run that continues takes what the files leave out from its checkpoint; the base is not read.
/// Naming another base than the run began with, or one where it had none, is then an error.
RunConfig load_run_config_on_base(const std::string& path,
                                  const std::vector<std::string>& overrides,
                                  const std::vector<std::string>& overlays = {},
                                  const std::string& resume = "auto");

/// The same of a configuration that has been read, for a run that begins.
RunConfig validated_on_base(LoadedConfig<RunConfig> loaded);

/// Keys of the section `model` that do not change what given weights compute: initial values,
/// limits, and what only training does. Every other key is the computation.
inline constexpr const char* kFreeModelKeys[] = {
    "mhc_init", "initializer_range", "max_position_embeddings", "qat_experts", "qat_indexer"};

}  // namespace braid
