#pragma once
// What convert() writes and where: every parameter, its form at the target, and the shards.
#include <map>
#include <string>
#include <vector>

#include "checkpoint/peft.h"
#include "checkpoint/safetensors_plan.h"
#include "formats/convert.h"
#include "formats/open_model.h"

namespace braid {

/// How a parameter gets its bytes at the target.
enum class Encoding {
  kCopy,     ///< values, and scales if there are any, as they are
  kRescale,  ///< codes as they are, scales (powers of two) in another dtype
  kCast,     ///< decoded where quantized, in another floating type
  kFp8,      ///< encoded again from the values
  kFp4,
};

struct Conversion {
  std::string name;  ///< release name
  Weight stored;
  Encoding encoding = Encoding::kCopy;
  at::ScalarType type = at::kFloat;   ///< kCast: of the values; kRescale, kFp8: of the scales
  std::vector<StoredTensor> tensors;  ///< under release names: values, then scales
  /// Values are rounded to this first, as training rounded them.
  QuantFormat rounded_to = QuantFormat::kOff;
  bool of_drafter = false;  ///< of a DSpark drafter, no parameter: as it is
  /// Added to the values, in float32; one of DoRA is alone. Then the encoding is one that rounds
  /// them.
  std::vector<LowRankUpdate> updates = {};

  /// Whether what is stored are codes of the form that the target has.
  bool keeps_codes = false;
};

/// What adapters change, by the matrix's release name.
using MatrixUpdates = std::map<std::string, std::vector<LowRankUpdate>>;

/// Throws Error, with the key and the way out, for a model that the format cannot express.
void require_expressible(const ModelConfig& config, ConvertTo to);

/// Every parameter of the model, in its order, then the tensors of its drafter. Experts trained
/// with model.qat_experts leave as they took part in training, unless DST is a checkpoint, which
/// keeps the masters. Throws Error for a weight that cannot be stored so.
std::vector<Conversion> conversions_of(const StoredModel& model,
                                       ConvertTo to,
                                       StoredAs stored_as,
                                       const MatrixUpdates& updates,
                                       std::vector<std::string>& left_out);

/// The form that kDefault means.
StoredAs resolved(StoredAs wanted, ConvertTo to, const StoredModel& model);

/// "FP4", "FP8 E8M0", "BF16": of a weight, and of what becomes of it.
std::string form_of(const Weight& weight);
std::string form_of(const Conversion& conversion);

/// The files' tensors, stacked experts as one.
std::vector<StoredTensor> tensors_at_target(const std::vector<Conversion>& conversions,
                                            ConvertTo to);

}  // namespace braid
