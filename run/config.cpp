#include "run/config.h"

#include <algorithm>
#include <utility>

#include "core/glob.h"
#include "core/parameter_names.h"
#include "data/tokenizer.h"
#include "model/transformer.h"
#include "run/metric_keys.h"
#include "run/validated.h"

namespace braid {
namespace {

// Of the model without adapters.
std::vector<std::string> parameter_names(const ModelConfig& config) {
  const WithoutValues without_values;
  const Transformer model(config, at::kFloat, /*seed=*/0);
  std::vector<std::string> names;
  for (const auto& parameter : model.parameters().all()) {
    names.push_back(parameter.name);
  }
  return names;
}

}  // namespace

Float32Products TrainSection::products_on(at::Device place) const {
  const bool rounds = place.is_cuda() && dtype == ComputeType::kBfloat16;
  return float32_products.value_or(rounds ? Float32Products::kTf32 : Float32Products::kExact);
}

at::ScalarType scalar_type(ComputeType type) {
  switch (type) {
    case ComputeType::kFloat64:
      return at::kDouble;
    case ComputeType::kFloat32:
      return at::kFloat;
    case ComputeType::kBfloat16:
      return at::kBFloat16;
  }
  fail("unknown compute type");
}

TrainedParameters TrainedParameters::from_config(const ConfigNode& node,
                                                 const std::string& path,
                                                 ConfigPlaces& places) {
  if (node.kind == ConfigNode::Kind::kScalar) {
    const bool is_lora = node.scalar == "lora";
    if (!is_lora && node.scalar != "full") {
      fail_at(path,
              node,
              text("expected full, lora, or a list of patterns of release names, such as "
                   "[layers.*.attn.wq_b.weight]; got ",
                   described(node)));
    }
    return {.kind = is_lora ? Kind::kLora : Kind::kFull};
  }
  require_list(node, path);
  TrainedParameters result{.kind = Kind::kPatterns};
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    const auto item_path = text(path, "[", i, "]");
    places.add(item_path, node.items[i].place);
    result.patterns.push_back(read_text(node.items[i], item_path));
  }
  return result;
}

ConfigNode TrainedParameters::to_config() const {
  if (kind != Kind::kPatterns) {
    return ConfigNode::text(kind == Kind::kFull ? "full" : "lora");
  }
  std::vector<ConfigNode> nodes;
  for (const auto& pattern : patterns) {
    nodes.push_back(ConfigNode::text(pattern));
  }
  return ConfigNode::sequence(std::move(nodes));
}

BestBy best_by(const CheckpointSection& config) {
  constexpr std::string_view kAccuracy = ".accuracy";  // names of sets have no dot
  const std::string_view name = config.best_by;
  return name.ends_with(kAccuracy)
             ? BestBy{std::string(name.substr(0, name.size() - kAccuracy.size())), true}
             : BestBy{config.best_by, false};
}

bool RunConfig::may_train(const std::string& name) const {
  switch (train.parameters.kind) {
    case TrainedParameters::Kind::kFull:
      return true;
    case TrainedParameters::Kind::kLora:
      return is_adapter(name);
    case TrainedParameters::Kind::kPatterns:
      return std::ranges::any_of(train.parameters.patterns, [&](const std::string& pattern) {
        return matches_glob(pattern, name);
      });
  }
  fail("unreachable: TrainedParameters");
}

void RunConfig::validate() const {
  if (model.source == ModelSource::kBase) {
    throw ConfigError("model", "is from_base, but run.init_from names no base");
  }
  if (!model.overridden.empty() && run.init_from.empty()) {
    throw ConfigError("model.override",
                      "is for runs that start from a base, but run.init_from names none");
  }
  model.validate();
  schedule.validate();
  data.validate();
  const auto text_tokenizer = make_tokenizer(tokenizer);
  if (model.vocab_size < text_tokenizer->vocab_size()) {
    throw ConfigError("model.vocab_size",
                      text("is ",
                           model.vocab_size,
                           ", but tokenizer '",
                           text_tokenizer->name(),
                           "' has ",
                           text_tokenizer->vocab_size(),
                           " ids"));
  }
  if (train.global_batch_size % train.micro_batch_size != 0) {
    throw ConfigError("train.micro_batch_size",
                      text("is ",
                           train.micro_batch_size,
                           ", which does not divide train.global_batch_size ",
                           train.global_batch_size));
  }
  const auto longest = static_cast<double>(std::max(data.seq_len, data.validation_seq_len));
  const double tokens = static_cast<double>(train.global_batch_size) * longest;
  if (tokens > 1e12) {
    throw ConfigError("train.global_batch_size",
                      text("is ",
                           train.global_batch_size,
                           ", with sequences of ",
                           longest,
                           " tokens ",
                           tokens,
                           " a step; at most 1e12 are possible"));
  }
  for (const auto& [key, length] :
       {std::pair{"data.seq_len", data.seq_len},
        std::pair{"data.validation_seq_len", data.validation_seq_len}}) {
    if (length > model.max_position_embeddings) {
      throw ConfigError(key,
                        text("is ",
                             length,
                             ", more than model.max_position_embeddings ",
                             model.max_position_embeddings));
    }
  }
  for (std::size_t i = 0; i < schedule.seq_len.size(); ++i) {
    if (const int64_t value = schedule.seq_len[i].value;
        value < 2 || value > model.max_position_embeddings) {
      throw ConfigError(text("schedule.seq_len[", i, "].value"),
                        text("is ",
                             value,
                             "; expected 2 to model.max_position_embeddings ",
                             model.max_position_embeddings));
    }
  }
  validate_length();
  validate_best();
  validate_samples();
  validate_qat();
  validate_alarms(*this);
  validate_trained_parameters();
  validate_expert_room();
  const bool anticipates = model.routing_mode == RoutingMode::kAnticipatory ||
                           stability.spike_action == SpikeAction::kAnticipate;
  constexpr int64_t kMostExperts = 32767;  // whose numbers are kept in 16 bits
  if (anticipates && model.n_routed_experts > kMostExperts) {
    throw ConfigError(
        "model.n_routed_experts",
        text("is ", model.n_routed_experts, "; anticipatory routing knows at most ", kMostExperts));
  }
  const bool indexer_learns =
      loss.indexer_mode != IndexerMode::kOff || schedule.indexer_warmup_steps > 0;
  bool has_indexer = false;
  for (int64_t i = 0; i < model.num_hidden_layers; ++i) {
    has_indexer |= model.layer(i).attention == AttentionKind::kCsa;
  }
  if (indexer_learns && !has_indexer) {
    throw ConfigError(loss.indexer_mode != IndexerMode::kOff ? "loss.indexer_mode"
                                                             : "schedule.indexer_warmup_steps",
                      "asks for the indexers' loss, but the model has no CSA layer");
  }
  if (loss.bias_update_speed > 1) {
    throw ConfigError("loss.bias_update_speed",
                      text("is ", loss.bias_update_speed, "; expected at most 1"));
  }
  if (optimizer.muon.bfloat16_products && train.dtype == ComputeType::kFloat64) {
    throw ConfigError("optimizer.muon.bfloat16_products",
                      "is for float32 master weights; train.dtype float64 makes them float64");
  }
  if (run.name.empty() || run.name.find('/') != std::string::npos || run.name == "." ||
      run.name == "..") {
    throw ConfigError("run.name", text("is '", run.name, "'; expected the name of one folder"));
  }
}

void RunConfig::validate_trained_parameters() const {
  if (lora()) {
    if (run.init_from.empty()) {
      throw ConfigError("train.parameters",
                        "is lora, but run.init_from names no model whose frozen weights adapters "
                        "could be added to");
    }
    adapter.validate(parameter_names(model));
  }
  const auto& patterns = train.parameters.patterns;
  if (train.parameters.kind != TrainedParameters::Kind::kPatterns) {
    return;
  }
  if (patterns.empty()) {
    throw ConfigError("train.parameters", "is an empty list, which trains nothing");
  }
  const auto names = parameter_names(model);
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    const bool trains = std::ranges::any_of(names, [&](const std::string& name) {
      return kind_of(name)->optimizer != OptimizerKind::kNone && matches_glob(patterns[i], name);
    });
    if (!trains) {
      throw ConfigError(text("train.parameters[", i, "]"),
                        text("'",
                             patterns[i],
                             "' matches no parameter that can be trained; expected release names, "
                             "such as layers.*.attn.wq_b.weight or, of all experts together, "
                             "layers.*.ffn.experts.*.w1.weight. Near: ",
                             nearest_parameters(patterns[i], names)));
    }
  }
}

ExpertRoom RunConfig::expert_room() const {
  constexpr double kGigabyte = 1e9;
  const auto bytes = [](const std::optional<double>& gigabytes) {
    return gigabytes ? std::optional(*gigabytes * kGigabyte) : std::nullopt;
  };
  return {.resident = bytes(train.resident_gb), .pinned = bytes(train.pinned_gb)};
}

void RunConfig::validate_expert_room() const {
  if (!train.resident_gb) {
    if (train.pinned_gb) {
      throw ConfigError("train.pinned_gb",
                        text("is ",
                             real_text(*train.pinned_gb),
                             ", but train.resident_gb is all, so that every expert stays on the "
                             "GPU and none is copied; give train.resident_gb, or leave both out"));
    }
    return;
  }
  const auto is = text("is ", real_text(*train.resident_gb), ", but ");
  if (train.device.kind == DeviceChoice::Kind::kCpu) {
    throw ConfigError("train.resident_gb",
                      is + "train.device is cpu, where frozen experts stay in the base's files and "
                           "take no memory: their pages are read for a product and let go after "
                           "it. Leave the key out, or give a train.device");
  }
  if (run.init_from.empty()) {
    throw ConfigError("train.resident_gb",
                      is + "run.init_from names no base whose experts could be frozen; all others "
                           "are always on the GPU. Leave the key out");
  }
}

void RunConfig::validate_samples() const {
  const auto& samples = logging.samples;
  if (samples.temperature > 0 && samples.temperature < 1e-6) {
    throw ConfigError("logging.samples.temperature",
                      text("is ", samples.temperature, "; expected 0, or at least 1e-6"));
  }
  if (samples.count > 0 && parallel.context > 1) {
    throw ConfigError("logging.samples.count",
                      text("is ",
                           samples.count,
                           ", but texts are not generated by ranks that divide sequences "
                           "(parallel.context is ",
                           parallel.context,
                           "); expected 0"));
  }
}

void RunConfig::validate_qat() const {
  const int64_t from = schedule.qat_from_step, steps = train.max_steps;
  if (from == 0) {
    return;
  }
  if (model.qat_experts == QuantFormat::kOff && model.qat_indexer == QuantFormat::kOff) {
    throw ConfigError("schedule.qat_from_step",
                      text("is ", from, ", but model.qat_experts and model.qat_indexer are off"));
  }
  if (from > steps) {
    throw ConfigError("schedule.qat_from_step",
                      text("is ",
                           from,
                           ", more than train.max_steps ",
                           steps,
                           ", so that nothing would be rounded; expected at most that"));
  }
}

void RunConfig::validate_length() const {
  const auto& max_steps = train.max_steps;
  const auto& epochs = train.epochs;
  if (!epochs) {
    if (max_steps.is_by_epochs()) {
      throw ConfigError("train.max_steps", "is by epochs, but train.epochs is off; give a number");
    }
    return;
  }
  if (!max_steps.is_by_epochs()) {
    throw ConfigError("train.epochs",
                      text("is ",
                           real_text(*epochs),
                           ", and train.max_steps is ",
                           max_steps.steps(),
                           ": both say how long the run is; leave one of them out (where another "
                           "file has it: train.max_steps: by epochs, or train.epochs: off)"));
  }
  if (std::ranges::any_of(data.train, [](const auto& source) { return source.task.has_value(); })) {
    throw ConfigError(
        "train.epochs",
        text("is ",
             real_text(*epochs),
             ", but a synthetic task of data.train never ends; give train.max_steps"));
  }
  if (data.train.size() > 1 && data.train.front().weight) {
    throw ConfigError("train.epochs",
                      text("is ",
                           real_text(*epochs),
                           ", but the sources of data.train have weights, and come to their ends "
                           "at different times; leave the weights out, so that they are one "
                           "source, or give train.max_steps"));
  }
}

void RunConfig::validate_best() const {
  const auto validation = data.validation_sets();
  const auto sets = validation.names();
  const auto [judged, by_accuracy] = best_by(checkpoint);
  if (!checkpoint.best_by.empty() && std::ranges::count(sets, judged) == 0) {
    throw ConfigError("checkpoint.best_by",
                      text("is '",
                           checkpoint.best_by,
                           "'; expected ",
                           sets.empty() ? "no value, as the sets of data.validation have no names"
                                        : "one of data.validation's names: " + joined(sets)));
  }
  for (const auto& set : validation.all()) {
    if (by_accuracy && set.name == judged && !set.task) {
      throw ConfigError("checkpoint.best_by",
                        text("is '",
                             checkpoint.best_by,
                             "', but ",
                             judged,
                             " is no task, so it has a loss and no accuracy; expected ",
                             judged));
    }
  }
  const bool validates = !data.validation.empty() || data.validation_fraction > 0;
  for (const auto& [key, value] :
       {std::pair{"checkpoint.keep_best", checkpoint.keep_best},
        std::pair{"train.stop_when_worse_for", train.stop_when_worse_for}}) {
    if (value > 0 && !validates) {
      throw ConfigError(key,
                        text("is ",
                             value,
                             ", but nothing is validated; name texts in data.validation, or give "
                             "data.validation_fraction"));
    }
    if (value > 0 && train.validate_every_steps == 0) {
      throw ConfigError(
          key, text("is ", value, ", but train.validate_every_steps 0 validates only at the end"));
    }
  }
}

GridPlace RunConfig::place_of(int64_t rank, int64_t ranks) const {
  const auto place = grid_place(parallel, ranks, rank, model.n_routed_experts);
  const auto require_shared = [&](const std::string& key, int64_t sequences) {
    if (sequences % place.data_size != 0) {
      const int64_t down = sequences / place.data_size * place.data_size;
      throw ConfigError(key,
                        text("is ",
                             sequences,
                             ", which ",
                             place.data_size,
                             " data-parallel ranks cannot share evenly; possible here: ",
                             down > 0 ? text(down, ", ") : "",
                             down + place.data_size,
                             place.data_size > 1 ? ", or another number of ranks" : ""));
    }
  };
  require_shared("train.global_batch_size", train.global_batch_size);
  for (std::size_t i = 0; i < schedule.global_batch_size.size(); ++i) {
    require_shared(text("schedule.global_batch_size[", i, "].value"),
                   schedule.global_batch_size[i].value);
  }
  std::vector<std::pair<std::string, int64_t>> lengths = {
      {"data.seq_len", data.seq_len}, {"data.validation_seq_len", data.validation_seq_len}};
  for (std::size_t i = 0; i < schedule.seq_len.size(); ++i) {
    lengths.emplace_back(text("schedule.seq_len[", i, "].value"), schedule.seq_len[i].value);
  }
  for (const auto& [key, length] : lengths) {
    if (length % place.context_size != 0) {
      const int64_t down = length / place.context_size * place.context_size;
      throw ConfigError(key,
                        text("is ",
                             length,
                             " tokens, which parallel.context ",
                             place.context_size,
                             " cannot divide evenly; possible here: ",
                             down > 0 ? text(down, ", ") : "",
                             down + place.context_size,
                             ", or another parallel.context"));
    }
  }
  return place;
}

RunConfig validated(LoadedConfig<RunConfig> loaded,
                    const std::function<void(LoadedConfig<RunConfig>&)>& complete) {
  auto& train = loaded.value.train;
  if (train.epochs && loaded.where("train.max_steps") == "default") {
    train.max_steps = StepCount::by_epochs();
  }
  try {
    if (complete) {
      complete(loaded);
    }
    loaded.value.validate();
  } catch (const ConfigError& error) {
    throw loaded.located(error);
  }
  return std::move(loaded.value);
}

RunConfig load_run_config(const std::string& path,
                          const std::vector<std::string>& overrides,
                          const std::vector<std::string>& overlays,
                          const std::function<void(LoadedConfig<RunConfig>&)>& complete) {
  auto loaded = load_config<RunConfig>(path, overrides, overlays);
  const auto own = load_config<RunConfig>(path);
  if (loaded.where("run.name") == own.where("run.name")) {
    for (const auto& overlay : overlays) {
      loaded.value.run.name += text('-', std::filesystem::path(overlay).stem().string());
    }
  }
  return validated(std::move(loaded), complete);
}

}  // namespace braid
