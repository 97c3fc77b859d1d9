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

void require_one_rank(const at::Tensor& a_rI, const at::Tensor& b_Or, const std::string& where) {
  require(a_rI.size(0) == b_Or.size(1),
          where,
          " has lora_A ",
          a_rI.sizes(),
          " and lora_B ",
          b_Or.sizes(),
          ", which are no [rank, in] and [out, rank]");
}

void require_magnitude_of(const at::Tensor& b_Or,
                          const at::Tensor& magnitude_O,
                          const std::string& where) {
  require(magnitude_O.size(0) == b_Or.size(0),
          where,
          " has lora_magnitude_vector ",
          magnitude_O.sizes(),
          " and lora_B ",
          b_Or.sizes(),
          ", which are no [out] and [out, rank]");
}

}  // namespace braid
