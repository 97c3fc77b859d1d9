#pragma once
#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "checkpoint/safetensors.h"

namespace braid {

/// A tensor of an adapter's file, in float32: a view of the file where it has that. Throws Error,
/// with the file's name, for one without values, of other dimensions (1 or 2), of no floating type,
/// or with values that are not finite.
at::Tensor adapter_tensor(const SafetensorsFile& file,
                          const std::string& file_name,
                          const std::string& key,
                          int64_t dimensions);

/// Require that the factors of a matrix have one rank, and DoRA's lengths one number for each row
/// of B. They throw Error that begins with `where`: the file and the matrix.
void require_one_rank(const at::Tensor& a_rI, const at::Tensor& b_Or, const std::string& where);
void require_magnitude_of(const at::Tensor& b_Or,
                          const at::Tensor& magnitude_O,
                          const std::string& where);

}  // namespace braid
