#pragma once
// LoRA adapters (model/lora.h) and the folders they come from and go to: Braid's runs and
// checkpoints, and PEFT's layout.
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/peft.h"
#include "formats/open_model.h"

namespace braid {

/// The adapters in a folder of PEFT's layout, or those of a run or checkpoint that trained some.
/// Throws Error for a model without adapters, and as read_peft() and read_model() do.
PeftAdapter read_adapter(const std::filesystem::path& folder);

/// Takes a model's own adapters out of its weights.
std::vector<LowRankUpdate> take_adapters(StoredModel& model);

/// Throws Error where one of several adapters is DoRA's: it gives the rows of a matrix their
/// lengths, which is no sum with what others add. `source` is the model they are for.
void require_addable(const std::vector<std::vector<LowRankUpdate>>& adapters,
                     const std::string& source);

/// Reads adapters for a model, and checks that they are for it: that its matrices have their
/// shapes, that the copies PEFT made of embedding and head are the model's, and, unless any_base,
/// that the fingerprint they were trained on is that of its files. Where that cannot be told, a
/// note of the model says so, as it does where adapters of the MTP block are left out because the
/// model has none.
std::vector<PeftAdapter> adapters_for(StoredModel& model, const AdapterFolders& adapters);

/// Adds adapters to those that a model has: model_of() then makes it with all of them. Several
/// adapters of a matrix become one, whose rank is the sum of theirs. Throws Error as
/// require_addable() does.
void add_adapters(StoredModel& model, const AdapterFolders& adapters);

/// Takes the adapters that a configured model draws (configure()) from a folder instead, to train
/// them further. Throws Error that names the key where the model's configuration has other
/// matrices, ranks or scales than the folder, or one of the two is DoRA's.
void start_from_adapter(StoredModel& model, const std::filesystem::path& folder);

/// What write_adapter() made.
struct WrittenAdapter {
  int64_t matrices = 0, parameters = 0;  ///< an expert's matrices count each
  int64_t of_mtp = 0;                    ///< those of the matrices that are in the MTP block's file
  std::vector<std::string> notes;        ///< for the user
};

/// Writes the adapters of `source` (read_adapter()) in PEFT's layout (write_peft()) into the folder
/// `target`, which must not exist: it appears whole or not at all.
WrittenAdapter write_adapter(const std::filesystem::path& source,
                             const std::filesystem::path& target);

}  // namespace braid
