#pragma once
// In which dtype the published checkpoints store each tensor.
#include <string>
#include <vector>

#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include "core/parameter_names.h"

namespace braid {

/// What a file says of one tensor.
struct StoredTensor {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;

  bool operator==(const StoredTensor&) const = default;
};

std::size_t bytes_of(const StoredTensor& tensor);

/// The two published forms of a model. They differ in the experts and in the scales' dtype.
enum class ReleaseLayout {
  kInstruct,  ///< FP4 experts, scales F8_E8M0
  kBase,      ///< FP8 experts, scales F32
};

/// The form of the parameter with this release name ("*" may stand for an expert's number).
/// Parameters that the release does not have (other residual kinds) are F32. Throws Error for a
/// name that no model has.
StoredForm stored_form(const std::string& name, ReleaseLayout layout);

/// What the release stores for a parameter of this name and shape: the tensor, or codes and scales.
/// Throws Error when a matrix cannot be cut into FP4 groups.
std::vector<StoredTensor> stored_tensors(const std::string& name,
                                         at::IntArrayRef shape,
                                         ReleaseLayout layout);

}  // namespace braid
