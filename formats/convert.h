#pragma once
// A model from one format on disk to another, a few rows at a time.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "formats/open_model.h"

namespace braid {

enum class ConvertTo {
  kRelease,     ///< safetensors under release names
  kHf,          ///< safetensors under Hugging Face's in-memory names, experts stacked, no MTP block
  kCheckpoint,  ///< Braid's own; always stored as SRC has it
};

/// How weights are stored at DST.
enum class StoredAs {
  kDefault,   ///< the same; of a run on a quantized base, as that base; quantized to HF: BF16
  kSame,      ///< as SRC has them
  kInstruct,  ///< FP4 experts, FP8 elsewhere, scales E8M0
  kBase,      ///< FP8, scales F32
  kBfloat16,  ///< BF16 where the release has BF16 or codes, else F32; for HF norms are F32 too
  kFloat32,
};

struct ConvertOptions {
  ConvertTo to = ConvertTo::kRelease;
  StoredAs stored_as = StoredAs::kDefault;
  std::size_t shard_bytes = 5'000'000'000;
  std::function<void(std::size_t done, std::size_t total)> progress;  ///< bytes of DST
  /// Adds the model's own LoRA adapters and these to the weights; without it, a model with adapters
  /// is refused.
  std::optional<AdapterFolders> merged = {};
};

/// Tensors of one kind that were stored in the same way.
struct ConvertedClass {
  std::string name;                       ///< "layers.*.ffn.experts.*.w1.weight"
  std::string from, to;                   ///< "FP4", "FP8 E8M0", "BF16"
  int64_t tensors = 0;                    ///< parameters; codes with their scales count once
  int64_t bytes = 0;                      ///< at DST, scales included
  double largest_error = 0;               ///< of any value; 0: nothing was rounded
  double squared_error = 0, squares = 0;  ///< sums over all values that were rounded or recoded
  /// Of those that adapters D were added to: how many; ||D||^2; the squared error of what is at DST
  /// against W + D; and the product <DST with D - DST without D, D>.
  int64_t updated = 0;
  double update_squares = 0, update_error = 0, update_product = 0;

  /// The share of the update that is there after rounding: its projection on D by ||D||.
  double survived() const { return update_product / update_squares; }
};

struct ConvertReport {
  std::vector<ConvertedClass> classes;
  std::vector<std::string> left_out;     ///< tensors that the format has no place for
  std::vector<std::string> notes;        ///< for the user
  std::vector<std::string> warnings;     ///< where rounding took most of an update
  int64_t shards = 0, shards_found = 0;  ///< found: finished by an earlier process
};

/// Converts the MODEL `source` (formats/open_model.h) into the folder `target`, which must not
/// exist: it is written as `target`.partial and renamed. A process that was stopped, be it by a
/// signal (core/interruption.h), is continued by the same call, shard by shard. Weights that are
/// stored as they were keep their bytes; codes of a run's quantized base are taken from there.
/// config.json and the tokenizer's files come along. Memory beside file mappings: the codes of one
/// matrix and 64 MB. Adapters are added to the values in float32, which are then stored once more
/// as they were, or as `stored_as` says: rounded once. Throws Error on any failure.
ConvertReport convert(const std::filesystem::path& source,
                      const std::filesystem::path& target,
                      const ConvertOptions& options);

}  // namespace braid
