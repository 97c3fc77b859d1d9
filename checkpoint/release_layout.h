#pragma once
// In which dtype the published checkpoints store each tensor (architecture.md 5.1 to 5.4).
#include <string>
#include <vector>

#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

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

/// How the release stores a parameter.
enum class StoredForm {
  kF32,
  kBf16,
  kI64,
  kFp8,  ///< F8_E4M3 [out, in] and "X.scale" [ceil(out / 128), ceil(in / 128)]
  kFp4,  ///< I8 [out, in / 2] and "X.scale" [out, in / 32]
};

/// The form of the parameter with this release name ("*" may stand for an expert's number).
/// Parameters that the release does not have (other residual kinds) are F32.
StoredForm stored_form(const std::string& name, ReleaseLayout layout);

/// "X.scale" of "X.weight".
std::string scale_name(const std::string& weight_name);

/// What the release stores for a parameter of this name and shape: the tensor, or codes and scales.
/// Throws Error when a matrix cannot be cut into FP4 groups.
std::vector<StoredTensor> stored_tensors(const std::string& name,
                                         at::IntArrayRef shape,
                                         ReleaseLayout layout);

}  // namespace braid
