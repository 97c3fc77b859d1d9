#pragma once
#include "data/prepare.h"
#include "run/config.h"

namespace braid {

/// The order in which a run reads its data.
StreamOptions stream_options(const RunConfig& config);

/// Where the run's length is a number of epochs (train.epochs), sets train.max_steps to the steps
/// that they are: the fewest after which every document was seen that often. What the last of them
/// has no documents left for, it takes from the epoch after. A pure function of the data and of the
/// keys that divide it into steps. Throws Interrupted when a signal asks to stop.
void count_epochs(const PreparedData& data, RunConfig& config);

}  // namespace braid
