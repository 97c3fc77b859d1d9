#include "formats/base_sizes.h"

#include <functional>

#include <ATen/ATen.h>

#include "checkpoint/hdf5.h"
#include "checkpoint/manifest.h"
#include "checkpoint/names.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/store.h"
#include "core/error.h"
#include "core/parameter_names.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModelTensors = "model/";

bool holds_codes(at::ScalarType type) {
  return type == at::kFloat8_e4m3fn || type == at::kChar || type == at::kByte;
}

/// Release name, dtype and bytes of every tensor in a model's files.
using VisitTensor = std::function<void(const std::string&, at::ScalarType, double)>;

void for_each_tensor(const fs::path& folder, const VisitTensor& visit) {
  if (folder.empty()) {
    return;
  }
  if (fs::exists(folder / kManifestFile)) {
    const auto index = Hdf5File::open(folder / kIndexFile);
    for (const auto& name : index.tensor_names()) {
      if (name.starts_with(kModelTensors)) {
        const auto described = index.describe_tensor(name);
        visit(name.substr(kModelTensors.size()),
              described.scalar_type(),
              static_cast<double>(described.nbytes()));
      }
    }
  } else if (fs::exists(folder / "config.json")) {
    const SafetensorsFile file(folder);
    for (const auto& name : file.names()) {
      const auto release = release_name(name);
      if (release && !file.is_foreign(name)) {
        visit(*release, file.dtype(name), static_cast<double>(file.bytes(name)));
      }
    }
  }
}

}  // namespace

std::map<std::string, double> bytes_of_codes(const fs::path& folder) {
  std::map<std::string, double> codes, scales;  // scales by the name of their matrix
  const auto visit = [&](const std::string& name, at::ScalarType type, double bytes) {
    const auto parsed = parsed_name(name);
    if (!parsed || !parsed->kind->may_be_quantized()) {
      return;
    }
    const auto starred = with_starred_expert(name);
    if (parsed->is_scale) {
      scales[starred] += bytes;
    } else if (holds_codes(type)) {
      codes[starred] += bytes;
    }
  };
  try {
    for_each_tensor(folder, visit);
  } catch (const Error&) {
    return {};
  }
  for (auto& [name, bytes] : codes) {
    const auto found = scales.find(scale_name(name));
    bytes += found == scales.end() ? 0 : found->second;
  }
  return codes;
}

}  // namespace braid
