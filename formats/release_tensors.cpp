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

std::string described(at::ScalarType dtype, const std::vector<int64_t>& shape) {
  return text(dtype_name(dtype), " ", at::IntArrayRef(shape));
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
    if (release && is_expert(*release) && !is_scale(*release)) {
      const auto type = file.dtype(name);
      return type == at::kChar || type == at::kByte ? std::optional(ReleaseLayout::kInstruct)
             : type == at::kFloat8_e4m3fn           ? std::optional(ReleaseLayout::kBase)
                                                    : std::nullopt;
    }
  }
  return std::nullopt;
}

std::vector<std::string> differences_from(const std::vector<StoredTensor>& expected,
                                          const SafetensorsFile& file) {
  std::vector<std::string> differences;
  std::set<std::string> known;
  for (const auto& [name, dtype, shape] : expected) {
    known.insert(name);
    if (!file.contains(name)) {
      differences.push_back(text(name, " is missing"));
      continue;
    }
    const bool same_type =
        file.dtype(name) == dtype || (dtype == at::kChar && file.dtype(name) == at::kByte);
    if (!same_type || file.shape(name) != shape) {
      differences.push_back(text(name,
                                 " is ",
                                 described(file.dtype(name), file.shape(name)),
                                 ", expected ",
                                 described(dtype, shape)));
    }
  }
  for (const auto& name : file.names()) {
    if (!known.contains(name)) {
      differences.push_back(text(name, " is not of this model"));
    }
  }
  return differences;
}

}  // namespace braid
