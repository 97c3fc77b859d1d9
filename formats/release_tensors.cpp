#include "formats/release_tensors.h"

#include <set>

#include <ATen/ATen.h>

#include "checkpoint/dtype.h"
#include "checkpoint/names.h"
#include "core/error.h"
#include "core/parameter_names.h"
#include "model/transformer.h"

namespace braid {
namespace {

std::string described(const std::string& dtype, const std::vector<int64_t>& shape) {
  return text(dtype, " ", at::IntArrayRef(shape));
}

}  // namespace

std::vector<StoredTensor> release_tensors_of(const ModelConfig& config, ReleaseLayout layout) {
  const WithoutValues without_values;
  const Transformer model(config, at::kFloat, /*seed=*/0);
  std::vector<StoredTensor> result;
  for (const auto& [name, value] : model.parameters().tensors()) {
    for (auto& tensor : stored_tensors(name, value.sizes(), layout)) {
      result.push_back(std::move(tensor));
    }
  }
  return result;
}

std::optional<ReleaseLayout> release_layout_of(const SafetensorsFile& file) {
  for (const auto& name : file.names()) {
    const auto release = release_name(name);
    if (release && is_expert(*release) && !is_scale(*release) && !file.is_foreign(name)) {
      const auto type = file.dtype(name);
      return type == at::kChar || type == at::kByte ? std::optional(ReleaseLayout::kInstruct)
             : type == at::kFloat8_e4m3fn           ? std::optional(ReleaseLayout::kBase)
                                                    : std::nullopt;
    }
  }
  return std::nullopt;
}

std::vector<std::string> differences_from(const std::vector<StoredTensor>& expected,
                                          const SafetensorsFile& file,
                                          const std::function<bool(const std::string&)>& is_other) {
  std::vector<std::string> differences;
  std::set<std::string> known;
  for (const auto& [name, dtype, shape] : expected) {
    known.insert(name);
    if (!file.contains(name)) {
      differences.push_back(text(name, " is missing"));
      continue;
    }
    const auto want = dtype_name(dtype), got = file.dtype_text(name);
    const bool same_type = got == want || (want == "I8" && got == "U8");
    if (!same_type || file.shape(name) != shape) {
      differences.push_back(text(
          name, " is ", described(got, file.shape(name)), ", expected ", described(want, shape)));
    }
  }
  for (const auto& name : file.names()) {
    if (!known.contains(name) && !(is_other && is_other(name))) {
      differences.push_back(text(name, " is not of this model"));
    }
  }
  return differences;
}

}  // namespace braid
