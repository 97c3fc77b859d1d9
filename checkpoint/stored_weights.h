#pragma once
// Tensors of files as weights: codes joined with their scales.
#include <map>
#include <string>
#include <vector>

#include "core/named_tensor.h"
#include "kernels/weight.h"

namespace braid {

using StoredWeights = std::map<std::string, Weight>;

/// The weights in `tensors` (release names): "X.weight" of F8_E4M3, I8 or U8 is joined with
/// "X.scale". The dtype says whether codes are FP4 or FP8; scales may be F8_E8M0 or (FP8) F32.
/// `mapped`: the tensors are views of files. Throws Error naming `source` and the tensor for codes
/// without scales, scales without codes, shapes or dtypes that do not fit.
StoredWeights stored_weights(const std::vector<NamedTensor>& tensors,
                             bool mapped,
                             const std::string& source);

}  // namespace braid
