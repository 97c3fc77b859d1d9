#pragma once
#include "run/config.h"

namespace braid {

/// The configuration with the steps that its train.epochs are: the data is read and tokenized for
/// it, and nothing of that stays. One without epochs is returned as it is.
RunConfig with_counted_epochs(RunConfig config);

}  // namespace braid
