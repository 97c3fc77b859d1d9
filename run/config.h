#pragma once
// The whole YAML of a run. Each section's struct is defined beside the code that reads it; those
// that the trainer reads are here.

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "data/config.h"
#include "data/tokenizer_config.h"
#include "kernels/gemm.h"
#include "model/config.h"
#include "model/expert_places.h"
#include "model/lora.h"
#include "optim/config.h"
#include "parallel/config.h"
#include "parallel/grid.h"
#include "run/device_choice.h"
#include "run/monitor_config.h"
#include "run/spike.h"
#include "run/step_count.h"

namespace braid {

struct RunSection {
  std::string name = "run";
  std::string output_dir = "runs";
  int64_t seed = 1;
  std::string init_from;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("name", &RunSection::name, "folder of the run below output_dir");
    v("output_dir", &RunSection::output_dir, "where runs are kept");
    v("seed", &RunSection::seed, "of initial weights and of the order of the data", any_from(0));
    v("init_from",
      &RunSection::init_from,
      "a run, checkpoint or model folder whose weights and architecture this run starts from; "
      "empty "
      "= random weights");
  }
};

/// Where the architecture is written: in the keys of `model`, or in the base of run.init_from.
enum class ModelSource { kKeys, kBase };
inline auto enum_names(ModelSource) {
  return std::array{EnumName{"keys", ModelSource::kKeys},
                    EnumName{"from_base", ModelSource::kBase}};
}

/// When the experts of a batch are chosen: in its own step, or some steps earlier, with the
/// parameters of that time (train/look_ahead.h).
enum class RoutingMode { kSync, kAnticipatory };
inline auto enum_names(RoutingMode) {
  return std::array{EnumName{"sync", RoutingMode::kSync},
                    EnumName{"anticipatory", RoutingMode::kAnticipatory}};
}

/// The architecture, and how it goes together with that of the base (formats/base_model.h).
struct ModelSection : ModelConfig {
  static constexpr const char* kScalarKey = "source";
  RoutingMode routing_mode = RoutingMode::kSync;
  int64_t routing_delay = 4;
  ModelSource source = ModelSource::kKeys;
  std::vector<std::string> overridden;

  ModelSection& operator=(const ModelConfig& config) {
    ModelConfig::operator=(config);
    return *this;
  }

  template <class Visitor>
  static void fields(Visitor& v) {
    ModelConfig::fields(v);
    v("routing_mode",
      &ModelSection::routing_mode,
      "in training: sync = experts are chosen by the weights of the step; anticipatory = by those "
      "of routing_delay steps earlier, for one more forward pass a step. stability.spike_action "
      "anticipate turns it on for a while");
    v("routing_delay",
      &ModelSection::routing_delay,
      "steps between choosing the experts of a batch and learning from it",
      between(0, 256));
    v("source",
      &ModelSection::source,
      "model: from_base = the whole section from the base (run.init_from); keys = as written, and "
      "what is not written from the base, if there is one");
    v("override",
      &ModelSection::overridden,
      "keys of this section that may differ from the base's although the weights were made with "
      "the base's");
  }
};

enum class ComputeType { kFloat64, kFloat32, kBfloat16 };
inline auto enum_names(ComputeType) {
  return std::array{EnumName{"float64", ComputeType::kFloat64},
                    EnumName{"float32", ComputeType::kFloat32},
                    EnumName{"bfloat16", ComputeType::kBfloat16}};
}
at::ScalarType scalar_type(ComputeType type);

inline auto enum_names(Float32Products) {
  return std::array{EnumName{"exact", Float32Products::kExact},
                    EnumName{"bf16x3", Float32Products::kBf16x3},
                    EnumName{"tf32", Float32Products::kTf32}};
}

/// What of the model a run trains. optimizer.groups say how, and may freeze more.
struct TrainedParameters {
  enum class Kind { kFull, kLora, kPatterns };
  Kind kind = Kind::kFull;
  std::vector<std::string> patterns = {};  ///< of release names; kPatterns

  static constexpr const char* kConfigKind = "full | lora | [pattern, ...]";
  static TrainedParameters from_config(const ConfigNode& node,
                                       const std::string& path,
                                       ConfigPlaces& places);
  ConfigNode to_config() const;
};

struct TrainSection {
  TrainedParameters parameters;
  StepCount max_steps;
  std::optional<double> epochs = {};
  int64_t global_batch_size = 16;
  int64_t micro_batch_size = 16;
  ComputeType dtype = ComputeType::kFloat32;
  std::optional<Float32Products> float32_products = {};
  DeviceChoice device;
  std::optional<double> resident_gb = {};
  std::optional<double> pinned_gb = {};
  bool working_copies = true;
  int64_t threads = 0;
  std::optional<int64_t> recompute_sublayers = {};
  int64_t validate_every_steps = 200;
  int64_t stop_when_worse_for = 0;

  /// What float32_products means for a model on this device.
  Float32Products products_on(at::Device place) const;

  template <class Visitor>
  static void fields(Visitor& v) {
    using T = TrainSection;
    v("parameters",
      &T::parameters,
      "full = all that optimizer.groups do not freeze; lora = the adapters of the section adapter "
      "alone, on frozen weights of run.init_from; or release names (* = any characters, ? = one)");
    v("max_steps",
      &T::max_steps,
      "optimizer steps of the whole run; by epochs = as many as train.epochs asks for");
    v("epochs",
      &T::epochs,
      "the length of the run as passes through the data, in place of max_steps",
      more_than(0),
      absent_as("off"));
    v("global_batch_size", &T::global_batch_size, "sequences per optimizer step", at_least(1));
    v("micro_batch_size",
      &T::micro_batch_size,
      "sequences that are in memory at once",
      at_least(1));
    v("dtype", &T::dtype, "activations; master weights are float32, or float64 with float64");
    v("float32_products",
      &T::float32_products,
      "products of two float32 matrices: exact; bf16x3 = each factor as three bfloat16, on "
      "processors with AMX (error below 2^-21 of the factors), elsewhere exact; tf32 = factors "
      "rounded to TF32 (by 2^-11) on GPUs, elsewhere exact; auto = tf32 for dtype bfloat16 on a "
      "GPU, else exact",
      absent_as("auto"));
    v("device",
      &T::device,
      "where the model, its gradients and its optimizer are: cpu; cuda = the GPU of the rank's "
      "number on its machine, modulo the GPUs there; cuda:N = GPU N");
    v("resident_gb",
      &T::resident_gb,
      "on a GPU: of frozen experts in FP4 or FP8, the 10^9 bytes that stay in each rank's GPU; the "
      "other layers' are copied to it when a pass comes to them (docs/gpu.md)",
      at_least(0),
      absent_as("all"));
    v("pinned_gb",
      &T::pinned_gb,
      "of the experts that are copied, the 10^9 bytes of each rank in pinned memory of the host; "
      "the others are read from the base's files each time",
      at_least(0),
      absent_as("all"));
    v("working_copies",
      &T::working_copies,
      "on a GPU, with dtype bfloat16: matrices that products round to it are held so beside their "
      "float32 masters, 2 bytes a parameter, and rounded once a step; false = in every pass. The "
      "numbers are the same");
    v("threads",
      &T::threads,
      "CPU threads; 0 = OMP_NUM_THREADS, or the cores that the process may use",
      at_least(0));
    v("recompute_sublayers",
      &T::recompute_sublayers,
      "activations kept only at every n-th sublayer and computed again in between; 2 = per layer",
      at_least(1),
      absent_as("off"));
    v("validate_every_steps", &T::validate_every_steps, "0 = only at the end", at_least(0));
    v("stop_when_worse_for",
      &T::stop_when_worse_for,
      "end the run after that many validations in a row without a lower loss than the best; 0 = "
      "never",
      at_least(0));
  }
};

enum class IndexerMode { kOff, kWarmup, kSparse };
inline auto enum_names(IndexerMode) {
  return std::array{EnumName{"off", IndexerMode::kOff},
                    EnumName{"warmup", IndexerMode::kWarmup},
                    EnumName{"sparse", IndexerMode::kSparse}};
}

enum class ObjectiveKind { kLanguage, kPreference };
inline auto enum_names(ObjectiveKind) {
  return std::array{EnumName{"language", ObjectiveKind::kLanguage},
                    EnumName{"preference", ObjectiveKind::kPreference}};
}

struct LossSection {
  ObjectiveKind objective = ObjectiveKind::kLanguage;
  double preference_beta = 0.1;
  bool preference_length_normalized = false;
  double mtp_weight = 0.3;
  double mtp_decay_weight = 0.1;
  double balance_weight = 1e-4;
  double bias_update_speed = 0.001;
  IndexerMode indexer_mode = IndexerMode::kOff;
  double indexer_weight = 1;

  template <class Visitor>
  static void fields(Visitor& v) {
    using L = LossSection;
    v("objective",
      &L::objective,
      "language = predict the next token; preference = prefer the chosen to the rejected answer of "
      "a pair more than the model that the run starts from does (DPO)");
    v("preference_beta",
      &L::preference_beta,
      "how strongly preference holds the model to that one",
      more_than(0));
    v("preference_length_normalized",
      &L::preference_length_normalized,
      "log-probabilities of answers are divided by their tokens; preference_beta is then about 5");
    v("mtp_weight", &L::mtp_weight, "weight of the multi-token prediction loss", at_least(0));
    v("mtp_decay_weight",
      &L::mtp_decay_weight,
      "the same once the learning rate decays",
      at_least(0));
    v("balance_weight",
      &L::balance_weight,
      "weight of the routers' balance loss within each document",
      at_least(0));
    v("bias_update_speed",
      &L::bias_update_speed,
      "step of the routing biases towards even expert load",
      at_least(0));
    v("indexer_mode",
      &L::indexer_mode,
      "how CSA's indexers learn after schedule.dense_steps and indexer_warmup_steps: off = not, "
      "sparse = from the entries they chose, warmup = alone, attention dense");
    v("indexer_weight", &L::indexer_weight, "weight of their loss", more_than(0));
  }
};

struct CheckpointSection {
  int64_t every_steps = 500;
  int64_t keep_last = 2;
  int64_t keep_every_steps = 0;
  int64_t keep_best = 0;
  std::string best_by = {};
  bool in_background = true;
  int64_t deflate_level = 0;

  template <class Visitor>
  static void fields(Visitor& v) {
    using C = CheckpointSection;
    v("every_steps", &C::every_steps, "0 = only at the end", at_least(0));
    v("keep_last", &C::keep_last, "older ones are removed ...", at_least(1));
    v("keep_every_steps",
      &C::keep_every_steps,
      "... except those of steps that this divides; 0 = no exception",
      at_least(0));
    v("keep_best",
      &C::keep_best,
      "... and that many with the best validations, which are saved for it; the best is "
      "checkpoints/best",
      at_least(0));
    v("best_by",
      &C::best_by,
      "the set of data.validation whose loss keep_best and train.stop_when_worse_for go by; empty "
      "= the first. NAME.accuracy: the accuracy of that task instead, the highest being the best");
    v("in_background",
      &C::in_background,
      "write a copy of the weights and states while training goes on; takes memory for it");
    v("deflate_level",
      &C::deflate_level,
      "compression, 1 = fastest to 9 = smallest; 0 = off. Trained floats shrink little and slowly",
      between(0, 9));
  }
};

/// Texts that the model writes while it is trained, for people to read (train/text_samples.h).
struct SamplesSection {
  int64_t count = 0;
  std::vector<std::string> prompts = {};
  int64_t max_tokens = 100;
  double temperature = 0.8;

  template <class Visitor>
  static void fields(Visitor& v) {
    using S = SamplesSection;
    v("count", &S::count, "texts of each prompt at each validation; 0 = none", between(0, 1000));
    v("prompts", &S::prompts, "what they begin with; none = the beginning of a document");
    v("max_tokens", &S::max_tokens, "new tokens of a text, at most", at_least(1));
    v("temperature",
      &S::temperature,
      "logits are divided by it; 0 = always the most probable token",
      between(0, 100));
  }
};
/// What checkpoint.best_by names.
struct BestBy {
  std::string set;  ///< empty = the first
  bool accuracy = false;
};
BestBy best_by(const CheckpointSection& config);

struct LoggingSection {
  int64_t every_steps = 10;
  SamplesSection samples = {};
  MonitorSet monitors = MonitorSet::all();
  int64_t monitor_every_steps = 100;
  int64_t monitor_tokens = 256;
  int64_t dead_after_steps = 100;
  bool tensorboard = false;

  bool measures(int64_t step) const { return !monitors.empty() && step % monitor_every_steps == 0; }

  template <class Visitor>
  static void fields(Visitor& v) {
    using L = LoggingSection;
    v("every_steps",
      &L::every_steps,
      "steps between lines where the output is no terminal",
      at_least(1));
    v("samples",
      &L::samples,
      "texts that the model writes at validations, in metrics.jsonl and on the page of `braid "
      "report`");
    v("monitors",
      &L::monitors,
      "of updates, weights, attention, experts, swiglu, residual, mtp, what is measured of the "
      "run's health (docs/monitors.md); the others cost nothing");
    v("monitor_every_steps",
      &L::monitor_every_steps,
      "steps between measurements of all but mtp, which is in every step",
      at_least(1));
    v("monitor_tokens",
      &L::monitor_tokens,
      "tokens of one micro-batch of each rank that attention, swiglu and residual look at",
      at_least(1));
    v("dead_after_steps",
      &L::dead_after_steps,
      "steps without a token after which an expert counts as dead",
      at_least(1));
    v("tensorboard",
      &L::tensorboard,
      "write what metrics.jsonl has, expert loads and the configuration for TensorBoard too");
  }
};

struct RunConfig {
  RunSection run;
  ModelSection model;
  TokenizerConfig tokenizer;
  DataSection data;
  TrainSection train;
  LoraConfig adapter;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  LossSection loss;
  ParallelSection parallel;
  StabilitySection stability;
  CheckpointSection checkpoint;
  LoggingSection logging;

  template <class Visitor>
  static void fields(Visitor& v) {
    using R = RunConfig;
    v("run", &R::run, "the run");
    v("model", &R::model, "the architecture");
    v("tokenizer", &R::tokenizer, "text to ids");
    v("data", &R::data, "what to train on");
    v("train", &R::train, "length, batch and precision");
    v("adapter", &R::adapter, "low-rank adapters, for train.parameters: lora");
    v("optimizer", &R::optimizer, "Muon and AdamW");
    v("schedule", &R::schedule, "the learning rate over the run");
    v("loss", &R::loss, "terms beside the cross-entropy");
    v("parallel", &R::parallel, "how the ranks of mpirun divide the work");
    v("stability", &R::stability, "what happens when the loss is not finite or jumps");
    v("checkpoint", &R::checkpoint, "saving");
    v("logging", &R::logging, "reporting");
  }

  std::filesystem::path run_dir() const { return std::filesystem::path(run.output_dir) / run.name; }

  /// The adapters of the run's model; none unless it trains them.
  std::optional<LoraConfig> lora() const {
    return train.parameters.kind == TrainedParameters::Kind::kLora ? std::optional(adapter)
                                                                   : std::nullopt;
  }
  /// What train.resident_gb and train.pinned_gb leave room for.
  ExpertRoom expert_room() const;
  /// Whether train.parameters lets the run train this parameter ("*" for experts).
  bool may_train(const std::string& name) const;

  /// Throws ConfigError for what single fields cannot tell.
  void validate() const;
  /// The place of a rank in the grid that `parallel` asks for. Throws ConfigError where that many
  /// ranks cannot form it or cannot share a batch, with the choices that work.
  GridPlace place_of(int64_t rank, int64_t ranks) const;

 private:
  void validate_length() const;
  void validate_best() const;
  void validate_samples() const;
  void validate_qat() const;
  void validate_trained_parameters() const;
  void validate_expert_room() const;
};

/// load_config plus validate(), with the place of the key in every message. A run with overlays has
/// their names behind its own (quickstart-plain) unless they or the overrides say run.name.
/// `complete` may fill in what the files leave to others before the whole is validated.
RunConfig load_run_config(const std::string& path,
                          const std::vector<std::string>& overrides,
                          const std::vector<std::string>& overlays = {},
                          const std::function<void(LoadedConfig<RunConfig>&)>& complete = {});

}  // namespace braid
