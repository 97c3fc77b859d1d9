#pragma once
// Low-rank adapters in the layout of Hugging Face's PEFT (https://github.com/huggingface/peft): a
// folder with adapter_config.json and adapter_model.safetensors.
//
// Local letters: I inputs and O outputs of a matrix, r the rank.
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/named_tensor.h"

namespace braid {

inline constexpr const char* kPeftConfig = "adapter_config.json";
inline constexpr const char* kPeftWeights = "adapter_model.safetensors";

/// scale B A, which is added to one matrix W [O, I]. To an embedding [ids, width] its transpose is
/// added: I are the ids. With DoRA (arXiv:2402.09353) the rows of the sum then get the lengths
/// magnitude_O: the matrix becomes magnitude (W + scale B A) / |W + scale B A|.
struct LowRankUpdate {
  std::string matrix;  ///< release name; each expert's is one of its own
  at::Tensor a_rI, b_Or;
  double alpha = 0;
  double scale = 0;             ///< alpha / r, or alpha / sqrt(r) with rsLoRA
  at::Tensor magnitude_O = {};  ///< undefined without DoRA
};

/// scale B A [O, I] in float32, of an embedding transposed: rows [first, first + rows) of what is
/// added to the matrix.
at::Tensor update_rows(const LowRankUpdate& update, int64_t first, int64_t rows);

/// What changes rows values_RI [R, I] of the matrix, of which they are rows [first, first + R):
/// update_rows(), or the difference that DoRA makes. Of the type of the values.
at::Tensor change_of_rows(const LowRankUpdate& update, int64_t first, const at::Tensor& values_RI);

struct PeftAdapter {
  std::string source;  ///< the folder
  std::vector<LowRankUpdate> updates;
  bool rslora = false;
  /// Whole matrices of the base that PEFT stored beside their adapters (embedding and head), by
  /// release name.
  std::vector<NamedTensor> base_copies;
  std::string base_model;  ///< folder or name of the base it was trained on; may be empty
  /// The base's fingerprint (formats/open_model.h); empty where Braid did not write the adapter.
  std::string base_fingerprint;
  std::vector<std::string> notes;  ///< keys that were passed over, for the user

  /// Whether the adapters are DoRA's: all of a folder or none.
  bool is_dora() const { return !updates.empty() && updates.front().magnitude_O.defined(); }
};

/// Whether the folder has an adapter_config.json.
bool is_peft_folder(const std::filesystem::path& folder);

/// Reads LoRA and DoRA adapters of a DeepSeek-V4 model in any of the three namings: linear layers,
/// routed experts as PEFT stacks them (target_parameters) or one by one (".experts.7.w1."), and
/// other matrices; and those of the MTP block (checkpoint/mtp_adapter.h) where the metadata of the
/// safetensors file name their file. Tensors are float32, views of the file where it has float32.
/// rank_pattern and alpha_pattern are regular expressions of the last components of a path, the
/// first that matches counts. Throws Error, with file and key, for everything that changes the
/// result and is not implemented (biases, modules_to_save, ...), for DoRA of what has none
/// (target_parameters to PEFT, embedding and head to Braid), for tensors without a place, and for
/// shapes or ranks that contradict each other.
PeftAdapter read_peft(const std::filesystem::path& folder);

/// Makes the two files in a folder that exists, as PEFT 0.21 writes them. Matrices w1 and w3 of an
/// expert have one A (with_shared_inputs()); every expert of a layer has an adapter or none, of one
/// rank. Adapters of the MTP block, which Hugging Face's models lack, go into a file of their own
/// (checkpoint/mtp_adapter.h) beside the others, of which there must be some. The base's name and
/// fingerprint go into the metadata of the safetensors file, which PEFT passes over. Throws Error
/// for what PEFT's layout cannot say.
void write_peft(const std::filesystem::path& folder, const PeftAdapter& adapter);

/// The same updates, with one A for w1 and w3 of each expert, which PEFT's stack of both has: two
/// different ones become A = [A1; A3], B1 = [B1 0], B3 = [0 B3] of twice the rank. A partner that
/// is not there has B = 0. `rslora` says how alpha follows from their scale.
std::vector<LowRankUpdate> with_shared_inputs(std::vector<LowRankUpdate> updates, bool rslora);

/// The alpha of this scale and rank.
double lora_alpha_of(double scale, int64_t rank, bool rslora);

}  // namespace braid
