#include "checkpoint/release_layout.h"

#include "core/error.h"
#include "core/sizes.h"

namespace braid {

std::size_t bytes_of(const StoredTensor& tensor) {
  std::size_t bytes = c10::elementSize(tensor.dtype);
  for (const int64_t size : tensor.shape) {
    bytes *= static_cast<std::size_t>(size);
  }
  return bytes;
}

StoredForm stored_form(const std::string& name, ReleaseLayout layout) {
  const auto* kind = kind_of(name);
  require(kind != nullptr, "'", name, "' is not the name of a parameter");
  const bool fp8_experts = layout == ReleaseLayout::kBase && kind->form == StoredForm::kFp4;
  return fp8_experts ? StoredForm::kFp8 : kind->form;
}

std::vector<StoredTensor> stored_tensors(const std::string& name,
                                         at::IntArrayRef shape,
                                         ReleaseLayout layout) {
  const auto scale_type = layout == ReleaseLayout::kInstruct ? at::kFloat8_e8m0fnu : at::kFloat;
  switch (stored_form(name, layout)) {
    case StoredForm::kF32:
      return {{name, at::kFloat, shape.vec()}};
    case StoredForm::kBf16:
      return {{name, at::kBFloat16, shape.vec()}};
    case StoredForm::kI64:
      return {{name, at::kLong, shape.vec()}};
    case StoredForm::kFp8:
      return {{name, at::kFloat8_e4m3fn, shape.vec()},
              {scale_name(name), scale_type, {blocks(shape[0], 128), blocks(shape[1], 128)}}};
    case StoredForm::kFp4:
      require(shape[1] % 32 == 0,
              name,
              " ",
              shape,
              " cannot be stored as FP4: its ",
              shape[1],
              " inputs are not a multiple of 32, the width of a group with one scale");
      return {{name, at::kChar, {shape[0], shape[1] / 2}},
              {scale_name(name), scale_type, {shape[0], shape[1] / 32}}};
  }
  fail("unreachable: StoredForm of ", name);
}

}  // namespace braid
