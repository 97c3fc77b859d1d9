#pragma once
// Every parameter that a model can have, once: its release name and all that follows from it. A new
// parameter is a new row of the table in parameter_names.cpp.
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

/// What a name stands behind.
enum class ParameterPlace {
  kTop,       ///< nothing: "embed.weight"
  kBlock,     ///< "layers.N.", or "mtp.N.", which has a layer of its own
  kMtpBlock,  ///< "mtp.N." alone
};

/// What a parameter is for, which tells the values of a new one.
enum class ParameterRole {
  kLinear,         ///< a matrix of a linear layer, which may carry an adapter: normal values
  kMatrix,         ///< the embedding, and what mHC multiplies streams by: normal values
  kNorm,           ///< gains of a norm: ones
  kBias,           ///< sinks, biases of positions and of routing: zeros
  kMixing,         ///< small ones that mix residual streams: as the residual says
  kTable,          ///< integers
  kLoraA,          ///< of an adapter: what reads the matrix's input
  kLoraB,          ///< of an adapter: what writes its output
  kLoraMagnitude,  ///< of a DoRA adapter: the norms of the rows
};

/// The parts of a model by which norms of gradients and counts are reported.
enum class ModelPart {
  kEmbedding,
  kHead,
  kAttention,
  kCompressor,
  kIndexer,
  kRouter,
  kExperts,
  kSharedExperts,
  kResidual,
  kNorms,
  kMtp,
};

/// "shared_experts" for kSharedExperts.
std::string_view name_of(ModelPart part);

/// How the release stores a parameter.
enum class StoredForm {
  kF32,
  kBf16,
  kI64,
  kFp8,  ///< F8_E4M3 [out, in] and "X.scale" [ceil(out / 128), ceil(in / 128)]
  kFp4,  ///< I8 [out, in / 2] and "X.scale" [out, in / 32]; FP8 in the base release
};

enum class OptimizerKind {
  kMuon,   ///< matrices: the momentum's nearest orthogonal matrix
  kAdamW,  ///< everything else
  kNone,   ///< frozen: neither updated nor decayed
};

/// Row blocks of a matrix that are logically independent.
enum class RowSplit { kWhole, kHeads, kOutputGroups, kOverlapHalves };

/// Which rows of Hugging Face's matrix a parameter is.
enum class HfRows { kAllRows, kFirstHalf, kSecondHalf };

/// A row of the table.
struct ParameterKind {
  ParameterPlace place;
  std::string_view name;  ///< release name behind the place; "*" is the number of an expert
  ParameterRole role;
  ModelPart part;           ///< outside the MTP block, of which everything is kMtp
  StoredForm form;          ///< in the instruct release
  OptimizerKind optimizer;  ///< unless optimizer.groups says otherwise; kNone: takes no gradient
  RowSplit split;           ///< into the matrices that Muon sees
  /// Hugging Face's name, behind "model.layers.N." where there is a layer; of experts that of the
  /// stack [E, rows, columns]. Empty where Hugging Face has no such parameter.
  std::string_view hf_name = {};
  HfRows hf_rows = HfRows::kAllRows;

  bool is_expert() const { return part == ModelPart::kExperts; }
  bool is_adapter() const {
    return role == ParameterRole::kLoraA || role == ParameterRole::kLoraB ||
           role == ParameterRole::kLoraMagnitude;
  }
  bool is_indexer() const { return part == ModelPart::kIndexer; }
  bool is_linear() const { return role == ParameterRole::kLinear; }
  /// Whether quantized models hold it as codes and scales.
  bool may_be_quantized() const { return form == StoredForm::kFp8 || form == StoredForm::kFp4; }
  /// Whether DeepSeek's models have it; false for the residuals of ablations.
  bool is_published() const {
    return !is_adapter() && (place == ParameterPlace::kMtpBlock || !hf_name.empty());
  }
};

/// The rows of a model without adapters, whose parameters have rows of their own made from these.
std::span<const ParameterKind> parameter_kinds();

/// A release name taken apart.
struct ParameterName {
  const ParameterKind* kind;  ///< never null
  std::string block;          ///< "layers.3.", "mtp.0." or empty
  int64_t layer = -1;         ///< 3; -1 outside the decoder layers
  std::string expert;         ///< "17", "*" or "16+*" (core/named_tensor.h); empty of all others
  bool is_scale = false;      ///< "X.scale", the scales of "X.weight"
};

/// Nothing for a name that no model has. "*" and "16+*" may stand for an expert's number.
std::optional<ParameterName> parsed_name(std::string_view release_name);

/// The row of a parameter; null for scales and for a name that no model has.
const ParameterKind* kind_of(std::string_view release_name);

/// The part of a parameter; all of the MTP block is kMtp. Throws Error for a name that no model
/// has.
ModelPart part_of(std::string_view release_name);

/// Whether these are weights of routed experts, or their scales; false for unknown names.
bool is_expert(std::string_view release_name);

/// Names of the two small matrices of a matrix's adapter (model/lora.h): "X.lora_A.weight" and
/// "X.lora_B.weight" of "X.weight" or of "X". The matrices w1 and w3 of experts share their A:
/// "layers.0.ffn.experts.*.w13.lora_A.weight".
std::string lora_a_name(const std::string& matrix_name);
std::string lora_b_name(const std::string& matrix_name);
/// Of the third part of a DoRA adapter: "X.lora_magnitude_vector".
std::string lora_magnitude_name(const std::string& matrix_name);

/// Whether this is such a name, of a matrix that models have.
bool is_adapter(std::string_view release_name);

/// Whether the name is in the MTP block, known or not.
bool is_mtp(std::string_view release_name);

/// The embedding, which the trunk and the MTP block read.
bool is_embedding(std::string_view release_name);

/// "layers.3." or "mtp.0." at the front of a name, and what follows. Without such a block, or where
/// its number is none, all of the name is the leaf.
struct BlockAndLeaf {
  std::string_view block, leaf;
};
BlockAndLeaf split_block(std::string_view name);

/// "X.scale" of "X.weight". Throws Error for other names.
std::string scale_name(const std::string& weight_name);
bool is_scale(std::string_view name);

/// A few of `names` that a pattern which matches none of them may have meant, as patterns of all
/// layers ("layers.*.attn.wq_b.weight, layers.*.attn.indexer.wq_b.weight"): those that hold what it
/// says, or else the nearest by spelling.
std::string nearest_parameters(const std::string& pattern, const std::vector<std::string>& names);

/// "*" instead of an expert's number, in any naming and whatever stands around:
/// "optimizer/layers.3.ffn.experts.17.w1.weight/momentum" -> "...experts.*.w1.weight/momentum".
std::string with_starred_expert(const std::string& name);

}  // namespace braid
