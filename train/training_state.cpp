#include "train/training_state.h"

#include <algorithm>
#include <array>
#include <iterator>

#include <ATen/ATen.h>

#include "core/parameter_names.h"

namespace braid {

namespace fs = std::filesystem;

namespace {

constexpr const char* kOwesValidation = "owes_validation";  // there only where it is true
constexpr const char* kLookAhead = "look_ahead";  // YAML; there only where it is not empty
constexpr const char* kAlarms = "alarms";         // YAML; there only where some are on
const std::string kMonitors = "monitors/";
constexpr const char* kValidations = "validations";  // YAML; not in checkpoints of older versions

template <class T>
T state_value(const Hdf5Attributes& state, const std::string& key, const fs::path& checkpoint) {
  const auto found = state.find(key);
  require(found != state.end() && std::holds_alternative<T>(found->second),
          checkpoint.string(),
          ": its state has no usable '",
          key,
          "'; it was not written by this version of braid train");
  return std::get<T>(found->second);
}

std::string steps_key(TrainedPart part) {
  return text(name_of(part), "_steps");
}

void restore_optimizer(Optimizer& optimizer, const Checkpoint& checkpoint, const fs::path& folder) {
  for (auto piece : optimizer.state()) {
    const auto name = piece.name;
    piece.name = "optimizer/" + name;
    require(
        read_piece(checkpoint, piece),
        folder.string(),
        ": no optimizer state '",
        name,
        "' of shape ",
        at::IntArrayRef(piece.shape),
        "; what trains which parameter (optimizer.groups, loss.indexer_mode) must stay as it was"
        " while a run continues");
  }
  for (const auto& [name, value] : optimizer.shared_state()) {
    // A run may begin to damp when it continues.
    if (!read_piece(checkpoint, whole({"optimizer/" + name, value}))) {
      at::Tensor(value).zero_();
    }
  }
}

}  // namespace

void TrainingState::count_step(int64_t targets, bool was_skipped) {
  ++step;
  tokens += targets;
  skipped += was_skipped ? 1 : 0;
  skipped_in_a_row = was_skipped ? skipped_in_a_row + 1 : 0;
  owes_validation = false;
}

std::vector<TensorPiece> checkpoint_pieces(const TrainingState& state, const GridPlace& place) {
  std::vector<TensorPiece> result;
  std::array<int64_t, 2> written = {};  // bytes of dense weights, of experts'
  for (const auto& parameter : state.model->parameters().all()) {
    if (parameter.in_base) {
      continue;
    }
    const bool of_experts = is_stack(parameter.name);
    const int64_t among = of_experts ? place.ranks / place.expert_size : place.ranks;
    const int64_t own = of_experts ? place.replica : place.rank;
    for (const auto& tensor : unstacked({{parameter.name, parameter.value.detach()}})) {
      // Ranks take turns by bytes written so far, so that each writes about as much.
      constexpr int64_t kTurn = 1 << 22;  // bytes
      auto& before = written[of_experts];
      const bool has_rows = tensor.value.dim() > 0 && tensor.value.numel() > 0;
      if (has_rows ? before / kTurn % among == own : place.rank == 0) {
        result.push_back({"model/" + tensor.name, tensor.value, tensor.value.sizes().vec(), 0});
      }
      before += static_cast<int64_t>(tensor.value.nbytes());
    }
  }
  // Every owner group has all states: the first one writes them. Experts' states have one owner.
  for (auto& piece : state.optimizer->local().state()) {
    const bool of_expert = is_expert(piece.name.substr(0, piece.name.rfind('/')));
    if (of_expert || place.rank < state.optimizer->sharding().dense.owners) {
      piece.name = "optimizer/" + piece.name;
      result.push_back(std::move(piece));
    }
  }
  if (place.rank == 0) {
    for (const auto& [name, value] : state.optimizer->local().shared_state()) {
      result.push_back(whole({"optimizer/" + name, value}));
    }
    if (state.idle_experts) {
      for (const auto& [name, value] : state.idle_experts->state()) {
        result.push_back(whole({kMonitors + name, value}));
      }
    }
  }
  std::ranges::move(look_ahead_pieces(state.ahead, place), std::back_inserter(result));
  return result;
}

Hdf5Attributes checkpoint_attributes(const TrainingState& state,
                                     const std::vector<TextDigest>& texts) {
  const auto& steps = state.optimizer->local().steps();
  const auto& spikes = state.spikes.state();
  const auto position = state.data_position();
  int64_t text_bytes = 0;
  for (const auto& source : position.sources) {
    text_bytes += source.stream.bytes;
  }
  Hdf5Attributes attributes = {{"step", state.step},
                               {"tokens", state.tokens},
                               {"samples", position.samples},
                               {"text_bytes", text_bytes},
                               {"data_position", dump_config(position)},
                               {"data_texts", to_yaml(texts)},
                               {"optimizer_steps", steps.all},
                               {"skipped", state.skipped},
                               {"skipped_in_a_row", state.skipped_in_a_row},
                               {"rollbacks", state.rollbacks},
                               {"schedule_steps", state.schedule_steps},
                               {kValidations, dump_config(state.validations)},
                               {"loss_mean", spikes.mean},
                               {"loss_variance", spikes.variance},
                               {"loss_steps", spikes.steps},
                               {"loss_steps_above", spikes.above}};
  for (const auto part : kTrainedParts) {
    attributes[steps_key(part)] = steps.of(part);
  }
  if (state.ahead.is_on()) {
    attributes[kLookAhead] = look_ahead_yaml(state.ahead);
  }
  if (const auto& alarms = state.alarms.state(); !alarms.counts.empty()) {
    attributes[kAlarms] = dump_config(alarms);
  }
  if (state.owes_validation) {
    attributes[kOwesValidation] = int64_t{1};
  }
  if (std::ranges::any_of(state.model->parameters().all(), &Parameter::in_base)) {
    name_base(*state.base, attributes);
  }
  return attributes;
}

void restore(TrainingState& state,
             const Checkpoint& checkpoint,
             const fs::path& folder,
             const GridPlace& place) {
  const bool holds_all_experts = place.expert_size == 1;
  load_weights(checkpoint, folder, holds_all_experts, state.model->parameters());
  restore_optimizer(state.optimizer->local(), checkpoint, folder);
  const auto number = [&](const std::string& key) {
    return state_value<int64_t>(checkpoint.state, key, folder);
  };
  const auto real = [&](const char* key) {
    return state_value<double>(checkpoint.state, key, folder);
  };
  state.step = number("step");
  state.tokens = number("tokens");
  state.skipped = number("skipped");
  state.skipped_in_a_row = number("skipped_in_a_row");
  state.rollbacks = number("rollbacks");
  state.owes_validation = checkpoint.state.contains(kOwesValidation);
  state.validations = {};
  if (checkpoint.state.contains(kValidations)) {
    state.validations = parse_config<BestValidations>(
        state_value<std::string>(checkpoint.state, kValidations, folder),
        folder.string() + ": " + kValidations);
  }
  auto alarms = checkpoint.state.find(kAlarms);
  state.alarms.restore(
      alarms == checkpoint.state.end()
          ? AlarmState{}
          : parse_config<AlarmState>(state_value<std::string>(checkpoint.state, kAlarms, folder),
                                     folder.string() + ": " + kAlarms));
  if (state.idle_experts) {
    for (const auto& [name, value] : state.idle_experts->state()) {
      if (!read_piece(checkpoint, whole({kMonitors + name, value}))) {
        at::Tensor(value).zero_();  // a run may begin to monitor them when it continues
      }
    }
  }
  OptimizerSteps steps{.all = number("optimizer_steps")};
  for (const auto part : kTrainedParts) {
    steps.of(part) = number(steps_key(part));
  }
  state.optimizer->local().set_steps(steps);
  state.spikes.restore({.mean = real("loss_mean"),
                        .variance = real("loss_variance"),
                        .steps = number("loss_steps"),
                        .above = number("loss_steps_above")});
}

std::vector<std::string> restore_data(TrainingState& state,
                                      const Checkpoint& checkpoint,
                                      const fs::path& folder,
                                      const PreparedData& data,
                                      const RunConfig& config,
                                      const GridPlace& place) {
  const auto yaml = [&](const char* key) {
    return state_value<std::string>(checkpoint.state, key, folder);
  };
  const auto source = [&](const char* key) { return folder.string() + ": " + key; };
  const auto texts = text_digests_of(yaml("data_texts"), source("data_texts"));
  auto notes = changes_of_texts(texts, data.texts);
  const auto restarted = state.loader->restore(
      parse_config<LoaderState>(yaml("data_position"), source("data_position")));
  for (const std::size_t i : restarted) {
    notes.push_back(text(data.training[i].name,
                         ": the order of the documents is new; it begins with epoch ",
                         state.loader->state().sources[i].stream.epoch));
  }
  state.ahead.steps.clear();
  if (checkpoint.state.contains(kLookAhead)) {
    const bool kept = restore_look_ahead(state.ahead,
                                         checkpoint,
                                         folder,
                                         yaml(kLookAhead),
                                         config,
                                         *state.model,
                                         place,
                                         *state.loader);
    if (!kept) {
      notes.push_back("the experts that were chosen ahead (model.routing_delay) are chosen anew");
    }
  }
  return notes;
}

}  // namespace braid
