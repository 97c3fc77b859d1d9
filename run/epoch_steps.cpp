#include "run/epoch_steps.h"

#include "core/error.h"
#include "core/interruption.h"
#include "run/regime.h"

namespace braid {

StreamOptions stream_options(const RunConfig& config) {
  return {.seed = static_cast<uint64_t>(config.run.seed), .pack_window = config.data.pack_window};
}

void count_epochs(const PreparedData& data, RunConfig& config) {
  if (!config.train.epochs) {
    return;
  }
  require(data.training.size() == 1, "[epochs] sources with weights have no common epoch");
  SampleStream stream(*data.training.front().store, stream_options(config));
  int64_t steps = 0;
  for (; stream.epochs() < *config.train.epochs; ++steps) {
    stop_if_interrupted();
    const auto regime = regime_at(config, steps);
    for (int64_t row = 0; row < regime.sequences; ++row) {
      stream.skip(regime.seq_len);
    }
  }
  config.train.max_steps = StepCount::by_epochs(steps);
}

}  // namespace braid
