#pragma once
// What implementations of Communicator check alike.
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

/// Bytes of one row: of all dimensions but the first.
int64_t row_bytes(const at::Tensor& tensor);

/// Throws Error unless `rows`, one number for each of `ranks` ranks, add up to the tensor's.
void require_rows(const at::Tensor& tensor,
                  const std::vector<int64_t>& rows,
                  int64_t ranks,
                  const char* what);

}  // namespace braid
