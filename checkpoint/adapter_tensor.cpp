#include "checkpoint/adapter_tensor.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace braid {

at::Tensor adapter_tensor(const SafetensorsFile& file,
                          const std::string& file_name,
                          const std::string& key,
                          int64_t dimensions) {
  const auto value = file.view(key);
  require(value.dim() == dimensions && value.is_floating_point() && value.numel() > 0,
          file_name,
          ": '",
          key,
          "' is ",
          value.sizes(),
          " of ",
          file.dtype_text(key),
          "; expected a ",
          dimensions == 1 ? "vector" : "matrix",
          " of floating numbers");
  auto wide = value.to(at::kFloat);
  require(wide.isfinite().all().item<bool>(),
          file_name,
          ": '",
          key,
          "' holds values that are not finite");
  return wide;
}

}  // namespace braid
