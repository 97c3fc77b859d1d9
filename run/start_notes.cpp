#include "run/start_notes.h"

#include <algorithm>
#include <set>

#include "core/parameter_names.h"
#include "optim/schedule.h"
#include "run/grouped_parameters.h"
#include "run/regime.h"

namespace braid {
namespace {

void note_routers(const RunConfig& config, std::vector<std::string>& notes) {
  const auto& model = config.model;
  if (model.num_experts_per_tok != 1 || !ever_trained(config).contains(TrainedPart::kTrunk)) {
    return;
  }
  int64_t hash = 0, learned = model.num_nextn_predict_layers;
  for (int64_t i = 0; i < model.num_hidden_layers; ++i) {
    (model.layer(i).routing == RoutingKind::kHash ? hash : learned) += 1;
  }
  const bool balanced = config.loss.balance_weight > 0 && model.n_routed_experts > 1;
  std::vector<std::string> parts;
  if (hash > 0) {
    parts.push_back(text("those of the ", hash, " hash layer(s) get no gradient"));
  }
  if (learned > 0) {
    parts.push_back(text("those of the ",
                         learned,
                         " learned layer(s) get ",
                         balanced ? "one from the balance loss alone" : "no gradient"));
  }
  notes.push_back(
      text("model.num_experts_per_tok is 1, so that an expert's weight is the same for "
           "every score of its router: of the routers ",
           parts.front(),
           parts.size() > 1 ? ", " + parts.back() : ""));
}

void note_indexers(const RunConfig& config, std::vector<std::string>& notes) {
  const auto& model = config.model;
  if (!ever_trained(config).contains(TrainedPart::kIndexer)) {
    return;
  }
  if (model.index_topk == 1 && config.loss.indexer_mode == IndexerMode::kSparse) {
    notes.emplace_back(
        "model.index_topk is 1: a choice of one entry has nothing to learn from, so that the "
        "indexers get no gradient where loss.indexer_mode is sparse");
  }
  int64_t longest = config.data.seq_len;
  for (const auto& stage : config.schedule.seq_len) {
    longest = std::max(longest, stage.value);
  }
  std::set<int64_t> too_long;
  for (int64_t i = 0; i < model.num_hidden_layers; ++i) {
    const auto layer = model.layer(i);
    if (layer.attention == AttentionKind::kCsa && 2 * layer.ratio > longest) {
      too_long.insert(layer.ratio);
    }
  }
  for (const int64_t ratio : too_long) {
    notes.push_back(text("data.seq_len is ",
                         longest,
                         ": no query sees two compressed entries of ",
                         ratio,
                         " tokens, so that the indexers of these layers get no gradient"));
  }
}

void note_warm_up(const RunConfig& config, std::vector<std::string>& notes) {
  const int64_t steps = config.train.max_steps, warmup = warmup_steps(config.schedule, steps);
  if (warmup > steps) {
    notes.push_back(text(
        "schedule.warmup_steps is ",
        warmup,
        ", more than the run's ",
        steps,
        " (train.max_steps): the learning rate only reaches ",
        config.optimizer.learning_rate * learning_rate_factor(config.schedule, steps - 1, steps),
        " of its peak ",
        config.optimizer.learning_rate));
  }
}

void note_adapters(const RunConfig& config, std::vector<std::string>& notes) {
  const auto lora = config.lora();
  if (!lora) {
    if (!config_differences(LoraConfig{}, config.adapter).empty()) {
      notes.emplace_back(
          "the section adapter is not used: train.parameters is not lora, so there are no "
          "adapters");
    }
    return;
  }
  if (ever_trained(config).contains(TrainedPart::kIndexer)) {
    return;
  }
  int64_t untrained = 0;
  std::string first;
  const auto model = model_without_values(config);
  for (const auto& [name, value] : model.parameters().tensors()) {
    if (kind_of(name)->is_indexer() && lora->target_of(name)) {
      first = untrained++ == 0 ? name : first;
    }
  }
  if (untrained > 0) {
    notes.push_back(text("the adapters of ",
                         untrained,
                         " matrices of indexers (",
                         first,
                         untrained > 1 ? ", ...)" : ")",
                         " get no gradient and stay zero: only their own loss trains indexers, and "
                         "loss.indexer_mode is off"));
  }
}

}  // namespace

std::vector<std::string> notes_at_start(const RunConfig& config) {
  std::vector<std::string> notes;
  note_warm_up(config, notes);
  note_routers(config, notes);
  note_indexers(config, notes);
  note_adapters(config, notes);
  return notes;
}

}  // namespace braid
