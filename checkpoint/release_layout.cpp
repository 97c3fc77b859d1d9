#include "checkpoint/release_layout.h"

#include <array>
#include <string_view>

#include "core/error.h"
#include "core/sizes.h"

namespace braid {
namespace {

bool ends_with_any(std::string_view name, const auto& endings) {
  for (const std::string_view ending : endings) {
    if (name.ends_with(ending)) {
      return true;
    }
  }
  return false;
}

constexpr std::array<std::string_view, 11> kFp8Endings = {"attn.wq_a.weight",
                                                          "attn.wq_b.weight",
                                                          "attn.wkv.weight",
                                                          "attn.wo_a.weight",
                                                          "attn.wo_b.weight",
                                                          "attn.indexer.wq_b.weight",
                                                          "ffn.shared_experts.w1.weight",
                                                          "ffn.shared_experts.w2.weight",
                                                          "ffn.shared_experts.w3.weight",
                                                          "e_proj.weight",
                                                          "h_proj.weight"};

constexpr std::array<std::string_view, 6> kF32Endings = {
    "attn_sink", ".ape", "gate.bias", "_fn", "_base", "_scale"};

}  // namespace

std::size_t bytes_of(const StoredTensor& tensor) {
  std::size_t bytes = c10::elementSize(tensor.dtype);
  for (const int64_t size : tensor.shape) {
    bytes *= static_cast<std::size_t>(size);
  }
  return bytes;
}

StoredForm stored_form(const std::string& name, ReleaseLayout layout) {
  if (name.find(".ffn.experts.") != std::string::npos) {
    return layout == ReleaseLayout::kInstruct ? StoredForm::kFp4 : StoredForm::kFp8;
  }
  if (ends_with_any(name, kFp8Endings)) {
    return StoredForm::kFp8;
  }
  if (name.ends_with(".tid2eid")) {
    return StoredForm::kI64;
  }
  return name.ends_with(".weight") && !ends_with_any(name, kF32Endings) ? StoredForm::kBf16
                                                                        : StoredForm::kF32;
}

std::string scale_name(const std::string& weight_name) {
  constexpr std::string_view kWeight = ".weight";
  require(weight_name.ends_with(kWeight),
          "'",
          weight_name,
          "' does not end in .weight, so its scales have no name");
  return weight_name.substr(0, weight_name.size() - kWeight.size()) + ".scale";
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
