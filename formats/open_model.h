#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/store.h"
#include "checkpoint/stored_weights.h"
#include "core/named_tensor.h"
#include "data/tokenizer.h"
#include "model/expert_places.h"
#include "model/transformer.h"

namespace braid {

/// In checkpoints, before the names of a drafter's tensors.
inline constexpr const char* kDrafter = "drafter/";

/// What a MODEL folder holds, unopened.
struct StoredModel {
  ModelConfig config;
  StoredWeights weights;  ///< by release name; views of files where there are files
  std::optional<TokenizerConfig> tokenizer;  ///< where the folder tells
  std::string source;                        ///< the folder the weights came from
  /// Where config.json and the tokenizer's files of the published model are, if there are such.
  std::filesystem::path published;
  /// The folder in which a run on this model may leave frozen weights: that of a published model or
  /// of a converted checkpoint. A run removes its old checkpoints, so of a run it is the base that
  /// the run itself left weights in, or empty.
  std::string base;
  /// The release names of weights that are not in `base` but in a run's checkpoint.
  std::set<std::string> not_in_base;
  /// The tensors of a DSpark drafter (mtp.*), which Braid carries along as they are.
  std::vector<NamedTensor> drafter;
  /// What of the folder was passed over, for the user.
  std::vector<std::string> notes;
  /// The weights have no MTP block: where the configuration has one, it starts from random values.
  bool draws_mtp = false;
  /// What has adapters (model/lora.h), whose A and B are then among the weights.
  std::optional<LoraConfig> lora = {};
  /// They are not, and start from their initial values.
  bool draws_adapters = false;
};

/// The architecture of a MODEL folder and the file that says so, without reading weights.
struct StoredArchitecture {
  ModelConfig config;
  std::filesystem::path file;  ///< config.json, or the config.yaml of a checkpoint
};
StoredArchitecture architecture_of(const std::filesystem::path& path);

/// Reads a Braid run (its newest complete checkpoint), a Braid checkpoint (of a run, or converted),
/// or a folder with config.json and safetensors under Hugging Face or release names, quantized or
/// not. A checkpoint of a run that left frozen weights in its base is completed from that base.
/// A checkpoint that a run removes while it is read is passed over for what is then its newest.
/// Throws Error that says what was looked for.
StoredModel read_model(const std::filesystem::path& path);

/// Makes the stored weights those of another configuration of this model where the two differ in
/// the MTP block alone: leaves the block out, or lets model_of() draw it. Adapters that the weights
/// lack are drawn, too. Throws Error where the weights have others than `lora` says.
void configure(StoredModel& stored,
               const ModelConfig& config,
               const std::optional<LoraConfig>& lora);

/// "adapter.rank was 16, is 8", the first of what makes adapters of `now` others than those of
/// `before`; empty where they are the same.
std::string adapter_difference(const std::optional<LoraConfig>& before,
                               const std::optional<LoraConfig>& now);

/// The shapes of the matrices that weights stand for, by release name.
std::map<std::string, std::vector<int64_t>> shapes_of(const StoredWeights& weights);

/// The tensors of a checkpoint below `prefix` ("model/"), without it.
std::vector<NamedTensor> tensors_in(const Checkpoint& checkpoint, std::string_view prefix);

/// The weights in a checkpoint, by release name.
std::vector<NamedTensor> weights_in(const Checkpoint& checkpoint);

/// The model that the frozen weights of a run come from and stay in, as its checkpoints name it.
struct BaseModel {
  std::string folder;       ///< absolute
  std::string fingerprint;  ///< fingerprint_of() when the run began; empty in old checkpoints
};

BaseModel base_at(const std::filesystem::path& folder);

/// The base that a checkpoint's run left its frozen weights in; nothing where the checkpoint holds
/// them all. `state` is the state of the checkpoint in `folder`. Throws Error when the base is gone
/// or another one.
std::optional<BaseModel> base_of(const Hdf5Attributes& state, const std::filesystem::path& folder);

/// What a checkpoint says of its base, to be read by base_of().
void name_base(const BaseModel& base, Hdf5Attributes& state);

/// Names, sizes, first and last bytes of a model folder's weight files, digested: another model at
/// the same place has another one.
std::string fingerprint_of(const std::filesystem::path& folder);

/// A model on `device` with the stored weights: each tensor is read once, straight into its
/// parameter. `is_frozen` tells which parameters ("*" for experts) are not trained; where the files
/// have them quantized, they stay so. On another device than the CPU `room` says how much of such
/// experts stays there; the others are streamed (model/expert_stream.h). `working_copies` as
/// Transformer has it. Throws Error listing tensors that are missing, unexpected or misshapen, and
/// naming the first one that is not finite (codes that stay in their files are not looked at).
std::unique_ptr<Transformer> model_of(const StoredModel& stored,
                                      at::ScalarType compute,
                                      uint64_t seed,
                                      const std::function<bool(const std::string&)>& is_frozen,
                                      const ModelRanks& ranks = {},
                                      at::Device device = at::kCPU,
                                      const ExpertRoom& room = {},
                                      bool working_copies = true);

/// Copies the weights of the checkpoint in `folder` into a model, or into what this rank holds of
/// it where others hold some of the experts. What the checkpoint's run left in its base must have
/// been read from there. Throws Error when a parameter that the configuration trains was frozen
/// then, or when tensors are missing, unexpected or misshapen.
void load_weights(const Checkpoint& checkpoint,
                  const std::filesystem::path& folder,
                  bool holds_all_experts,
                  Parameters& parameters);

/// A MODEL as every command takes it.
struct OpenedModel {
  std::unique_ptr<Transformer> model;
  std::optional<TokenizerConfig> tokenizer;  ///< where the folder tells
  std::string source;                        ///< the folder the weights came from
  std::vector<std::string> notes;            ///< StoredModel::notes
};

/// LoRA adapters that a command adds to a MODEL (formats/adapters.h).
struct AdapterFolders {
  std::vector<std::string> folders;  ///< each of PEFT's layout, a run, or a checkpoint
  bool any_base = false;             ///< also onto another base than they were trained on
};

/// For use without training: quantized weights stay quantized, unless `trainable`. `room` as in
/// model_of().
OpenedModel open_model(const std::filesystem::path& path,
                       at::ScalarType compute,
                       bool trainable = false,
                       const AdapterFolders& adapters = {},
                       at::Device device = at::kCPU,
                       const ExpertRoom& room = {});

}  // namespace braid
