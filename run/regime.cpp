#include "run/regime.h"

#include <set>

#include "optim/schedule.h"

namespace braid {

Regime regime_at(const RunConfig& config, int64_t applied) {
  return regime_at(config, applied, config.train.max_steps);
}

Regime regime_at(const RunConfig& config, int64_t applied, int64_t spanned) {
  const auto& schedule = config.schedule;
  const auto& loss = config.loss;
  const int64_t warmup_start = schedule.dense_steps;
  const int64_t warmup_end = warmup_start + schedule.indexer_warmup_steps;
  const bool dense = applied < warmup_start;
  const bool warmup = !dense && (applied < warmup_end || loss.indexer_mode == IndexerMode::kWarmup);
  const bool sparse_loss = !dense && !warmup && loss.indexer_mode == IndexerMode::kSparse;

  Regime regime;
  regime.options.dense_attention = dense || warmup;
  regime.options.recompute_sublayers = config.train.recompute_sublayers.value_or(0);
  regime.qat = applied >= schedule.qat_from_step;
  if (warmup) {
    regime.trained = {TrainedPart::kIndexer};
  } else if (sparse_loss) {
    regime.trained = TrainedParts::all();
  }
  const bool decaying = applied >= decay_start_step(schedule, spanned);
  regime.weights.mtp = decaying ? loss.mtp_decay_weight : loss.mtp_weight;
  regime.weights.balance = loss.balance_weight;
  regime.weights.indexer = warmup || sparse_loss ? loss.indexer_weight : 0;
  regime.learning_rate =
      config.optimizer.learning_rate * learning_rate_factor(schedule, applied, spanned);
  if (warmup) {
    regime.learning_rate = schedule.indexer_warmup_learning_rate.value_or(regime.learning_rate);
  }
  regime.sequences =
      ramp_value(schedule.global_batch_size, config.train.global_batch_size, applied);
  regime.seq_len = ramp_value(schedule.seq_len, config.data.seq_len, applied);
  return regime;
}

std::vector<int64_t> regime_starts(const RunConfig& config) {
  const auto& schedule = config.schedule;
  std::set<int64_t> starts = {0,
                              schedule.dense_steps,
                              schedule.dense_steps + schedule.indexer_warmup_steps,
                              schedule.qat_from_step};
  for (const auto* ramp : {&schedule.global_batch_size, &schedule.seq_len}) {
    for (const auto& stage : *ramp) {
      starts.insert(stage.until_step);
    }
  }
  return {starts.begin(), starts.lower_bound(config.train.max_steps)};
}

TrainedParts ever_trained(const RunConfig& config) {
  const bool always_warmup =
      config.loss.indexer_mode == IndexerMode::kWarmup && config.schedule.dense_steps == 0;
  if (always_warmup) {
    return {TrainedPart::kIndexer};
  }
  const bool trains_indexer =
      config.loss.indexer_mode != IndexerMode::kOff || config.schedule.indexer_warmup_steps > 0;
  return trains_indexer ? TrainedParts::all() : TrainedParts{TrainedPart::kTrunk};
}

}  // namespace braid
