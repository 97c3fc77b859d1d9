#include "commands/counted_epochs.h"

#include "commands/interrupt.h"
#include "core/temporary_folder.h"
#include "data/prepare.h"
#include "run/epoch_steps.h"

namespace braid {

RunConfig with_counted_epochs(RunConfig config) {
  if (!config.train.epochs) {
    return config;
  }
  const InterruptGuard guard;
  const TemporaryFolder folder = made_temporary_folder("plan");
  const auto data = prepare_data(config.data,
                                 *make_tokenizer(config.tokenizer),
                                 {folder.path() / "data", folder.path() / "validation.jsonl"});
  count_epochs(data, config);
  return config;
}

}  // namespace braid
