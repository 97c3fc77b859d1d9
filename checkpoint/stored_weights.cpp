#include "checkpoint/stored_weights.h"

#include "checkpoint/dtype.h"
#include "core/error.h"
#include "core/parameter_names.h"
#include "core/sizes.h"

namespace braid {
namespace {

bool are_codes(at::ScalarType type) {
  return type == at::kFloat8_e4m3fn || type == at::kChar || type == at::kByte;
}

void require_scales_fit(const std::string& name, const Weight& weight, const std::string& source) {
  const bool fp8 = weight.values.scalar_type() == at::kFloat8_e4m3fn;
  require(weight.values.dim() == 2,
          source,
          ": tensor ",
          name,
          " holds codes of shape ",
          weight.values.sizes(),
          ", expected a matrix");
  const int64_t in = weight.columns();
  const auto expected = fp8 ? std::vector{blocks(weight.rows(), 128), blocks(in, 128)}
                            : std::vector{weight.rows(), blocks(in, 32)};
  require(weight.scales.sizes() == at::IntArrayRef(expected) && (fp8 || in % 32 == 0),
          source,
          ": tensor ",
          name,
          " ",
          weight.values.sizes(),
          " of ",
          dtype_name(weight.values.scalar_type()),
          " has scales ",
          weight.scales.sizes(),
          ", expected ",
          at::IntArrayRef(expected),
          fp8 ? " (one for 128 x 128 codes)" : " (one for 32 codes of a row)");
  const auto type = weight.scales.scalar_type();
  require(type == at::kFloat8_e8m0fnu || (fp8 && type == at::kFloat),
          source,
          ": the scales of ",
          name,
          " are ",
          dtype_name(type),
          ", expected F8_E8M0",
          fp8 ? " or F32" : "");
}

}  // namespace

StoredWeights stored_weights(const std::vector<NamedTensor>& tensors,
                             bool mapped,
                             const std::string& source) {
  std::map<std::string, at::Tensor> scales;
  for (const auto& [name, value] : tensors) {
    if (is_scale(name)) {
      scales[name] = value;
    }
  }
  StoredWeights weights;
  for (const auto& [name, value] : tensors) {
    if (is_scale(name)) {
      continue;
    }
    Weight weight(value);
    if (are_codes(value.scalar_type())) {
      const auto found = scales.find(scale_name(name));
      require(found != scales.end(),
              source,
              ": tensor ",
              name,
              " holds codes (",
              dtype_name(value.scalar_type()),
              ") but there is no ",
              scale_name(name));
      weight = Weight(value, found->second, mapped ? WeightPlace::kMapped : WeightPlace::kDevice);
      require_scales_fit(name, weight, source);
      scales.erase(found);
    }
    weights[name] = weight;
  }
  require(scales.empty(),
          source,
          ": tensor ",
          scales.empty() ? "" : scales.begin()->first,
          " holds scales, but its weights are not codes");
  return weights;
}

}  // namespace braid
