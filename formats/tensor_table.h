#pragma once
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

namespace braid {

/// A list of tensors for people: equal tensors of all experts of a layer share a line.
class TensorTable {
 public:
  /// `dtype` as files spell it; `bytes` of the tensor in the file.
  void add(const std::string& name,
           const std::string& dtype,
           at::IntArrayRef shape,
           int64_t bytes,
           bool is_foreign = false);

  /// Objects with name, count, dtype, shape and bytes; layers in the order of their numbers.
  nlohmann::ordered_json rows() const;
  /// Tensors, elements and bytes of all whose names begin with `prefix`.
  nlohmann::ordered_json totals(const std::string& prefix) const;

 private:
  struct Row {
    std::string name;
    std::string dtype;
    std::vector<int64_t> shape;
    bool is_foreign = false;                     // of a dtype that Braid does not read
    int64_t count = 0, elements = 0, bytes = 0;  // of all
  };
  std::map<std::string, Row> rows_;  // by what they are sorted by
};

/// Whether no value of a tensor is NaN or infinite. Of types with fewer than 16 bits nothing is
/// said: true.
bool is_finite(const at::Tensor& value);

/// Throws Error that names the tensor, and the file or folder it is from if given, unless
/// is_finite().
void require_finite(const std::string& name,
                    const at::Tensor& value,
                    const std::string& source = "");

}  // namespace braid
