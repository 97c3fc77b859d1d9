#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/store.h"
#include "checkpoint/stored_weights.h"
#include "data/tokenizer.h"
#include "model/transformer.h"

namespace braid {

/// What a MODEL folder holds, unopened.
struct StoredModel {
  ModelConfig config;
  StoredWeights weights;  ///< by release name; views of files where there are files
  std::optional<TokenizerConfig> tokenizer;  ///< where the folder tells
  std::string source;                        ///< the folder the weights came from
  /// Where config.json and the tokenizer's files of the published model are, if there are such.
  std::filesystem::path published;
};

/// Reads a Braid run (its newest complete checkpoint), a Braid checkpoint (of a run, or converted),
/// or a folder with config.json and safetensors under Hugging Face or release names, quantized or
/// not. A checkpoint
/// of a run on a quantized base is completed from that base. Throws Error that says what was
/// looked for.
StoredModel read_model(const std::filesystem::path& path);

/// The shapes of the matrices that weights stand for, by release name.
std::map<std::string, std::vector<int64_t>> shapes_of(const StoredWeights& weights);

/// The weights in a checkpoint, by release name.
std::vector<NamedTensor> weights_in(const Checkpoint& checkpoint);

/// The folder of the quantized base model that a checkpoint's run left its frozen weights in; empty
/// where the checkpoint holds them all. Throws Error when it is gone or another one.
std::string base_of(const Checkpoint& checkpoint, const std::filesystem::path& folder);

/// Names, sizes, first and last bytes of a model folder's weight files, digested: another model at
/// the same place has another one.
std::string fingerprint_of(const std::filesystem::path& folder);

/// A model with the stored weights: each tensor is read once, straight into its parameter.
/// `keeps_codes` tells which parameters ("*" for experts) stay quantized, and so frozen, where the
/// file has them so. Throws Error listing tensors that are missing, unexpected or misshapen.
std::unique_ptr<Transformer> model_of(const StoredModel& stored,
                                      at::ScalarType compute,
                                      uint64_t seed,
                                      const std::function<bool(const std::string&)>& keeps_codes,
                                      const ModelRanks& ranks = {});

/// A MODEL as every command takes it.
struct OpenedModel {
  std::unique_ptr<Transformer> model;
  std::unique_ptr<Tokenizer> tokenizer;  ///< null where the folder says nothing about text
  std::string source;                    ///< the folder the weights came from
};

/// For use without training: quantized weights stay quantized, unless `trainable`.
OpenedModel open_model(const std::filesystem::path& path,
                       at::ScalarType compute,
                       bool trainable = false);

}  // namespace braid
