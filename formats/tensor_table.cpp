#include "formats/tensor_table.h"

#include <cctype>
#include <cmath>

#include <ATen/ATen.h>
#include <c10/util/accumulate.h>

#include "core/error.h"
#include "core/parameter_names.h"
#include "kernels/update.h"

namespace braid {
namespace {

bool is_digit(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0;
}

// Numbers padded with zeros, so that layer 2 comes before layer 10.
std::string sort_key(const std::string& name) {
  std::string key, number;
  for (const char c : name + ".") {
    if (is_digit(c)) {
      number += c;
      continue;
    }
    key += number.empty() ? "" : std::string(8 - std::min<std::size_t>(8, number.size()), '0');
    key += number + c;
    number.clear();
  }
  return key;
}

}  // namespace

void TensorTable::add(const std::string& name,
                      const std::string& dtype,
                      at::IntArrayRef shape,
                      int64_t bytes,
                      bool is_foreign) {
  const auto row_name = with_starred_expert(name);
  const int64_t elements = c10::multiply_integers(shape);
  auto& row = rows_[text(sort_key(row_name), " ", dtype, " ", shape)];
  row.name = row_name;
  row.dtype = dtype;
  row.shape = shape.vec();
  row.is_foreign = is_foreign;
  ++row.count;
  row.elements += elements;
  row.bytes += bytes;
}

nlohmann::ordered_json TensorTable::rows() const {
  auto result = nlohmann::ordered_json::array();
  for (const auto& [key, row] : rows_) {
    result.push_back({{"name", row.name},
                      {"count", row.count},
                      {"dtype", row.dtype + (row.is_foreign ? " (foreign)" : "")},
                      {"shape", row.shape},
                      {"bytes", row.bytes}});
  }
  return result;
}

nlohmann::ordered_json TensorTable::totals(const std::string& prefix) const {
  int64_t tensors = 0, elements = 0, bytes = 0;
  for (const auto& [key, row] : rows_) {
    if (row.name.starts_with(prefix)) {
      tensors += row.count;
      elements += row.elements;
      bytes += row.bytes;
    }
  }
  return {{"tensors", tensors}, {"elements", elements}, {"bytes", bytes}};
}

bool is_finite(const at::Tensor& value) {
  if (!value.is_floating_point() || value.element_size() < 2) {
    return true;
  }
  const auto type = value.scalar_type();
  const bool has_fast_way =
      value.is_contiguous() && value.is_cpu() && (type == at::kFloat || type == at::kDouble);
  // Of float64 the sum may also have overflowed.
  return (has_fast_way && std::isfinite(squared_norm(value.detach()))) ||
         value.isfinite().all().item<bool>();
}

void require_finite(const std::string& name, const at::Tensor& value, const std::string& source) {
  if (!is_finite(value)) {
    const int64_t broken = value.numel() - value.isfinite().sum().item<int64_t>();
    fail(source,
         source.empty() ? "" : ": ",
         "tensor '",
         name,
         "': ",
         broken,
         " of its ",
         value.numel(),
         " values are not finite",
         source.empty() ? "" : "; take an earlier checkpoint or train it again");
  }
}

}  // namespace braid
