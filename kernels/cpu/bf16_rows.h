#pragma once
// Rows of bfloat16 tensors for loops that compute in float32: a few rows at a time are widened into
// the cache, and their results rounded on the way out. Rows of wide tensors are used where they
// are.
#include <algorithm>
#include <type_traits>

#include <ATen/core/Tensor.h>

#include "core/aligned.h"
#include "kernels/bfloat16.h"
#include "kernels/cpu/bf16_rows_loops.h"

namespace braid {

/// Calls f(first, count) for the rows [begin, end), few enough at a time that some arrays of them
/// fit the cache.
template <class F>
void in_row_blocks(int64_t begin, int64_t end, int64_t width, const F& f) {
  constexpr int64_t kElements = 2048;
  const int64_t most = std::max<int64_t>(1, kElements / std::max<int64_t>(width, 1));
  for (int64_t first = begin; first < end; first += most) {
    f(first, std::min(most, end - first));
  }
}

/// Reads contiguous rows of `width` elements of bfloat16 or T.
template <class T>
class RowsIn {
 public:
  RowsIn(const T* rows, int64_t width) : data_(rows), width_(width), narrow_(false) {}
  RowsIn(const Bfloat16* rows, int64_t width) : data_(rows), width_(width), narrow_(true) {}
  RowsIn(const at::Tensor& tensor, int64_t width)
      : data_(tensor.const_data_ptr()),
        width_(width),
        narrow_(tensor.scalar_type() == at::kBFloat16) {}

  /// Valid until the next call.
  const T* at(int64_t row, int64_t count) {
    if constexpr (std::is_same_v<T, float>) {
      if (narrow_) {
        scratch_.resize(count * width_);
        BRAID_CPU(widen)
        (static_cast<const uint16_t*>(data_) + row * width_, scratch_.data(), count * width_);
        return scratch_.data();
      }
    }
    return static_cast<const T*>(data_) + row * width_;
  }

 private:
  const void* data_;
  int64_t width_;
  bool narrow_;
  AlignedVector<T> scratch_;
};

/// Writes such rows.
template <class T>
class RowsOut {
 public:
  RowsOut(T* rows, int64_t width) : data_(rows), width_(width), narrow_(false) {}
  RowsOut(Bfloat16* rows, int64_t width) : data_(rows), width_(width), narrow_(true) {}
  RowsOut(const at::Tensor& tensor, int64_t width)
      : RowsOut(tensor.data_ptr(), tensor.scalar_type() == at::kBFloat16, width) {}
  RowsOut(void* data, bool is_bf16, int64_t width) : data_(data), width_(width), narrow_(is_bf16) {}

  /// Where the values of these rows are to be put; put() must follow.
  T* at(int64_t row, int64_t count) {
    row_ = row;
    count_ = count;
    if (narrow_) {
      scratch_.resize(count * width_);
      return scratch_.data();
    }
    return static_cast<T*>(data_) + row * width_;
  }

  void put() {
    if constexpr (std::is_same_v<T, float>) {
      if (narrow_) {
        BRAID_CPU(narrow)
        (scratch_.data(), static_cast<uint16_t*>(data_) + row_ * width_, count_ * width_);
      }
    }
  }

 private:
  void* data_;
  int64_t width_, row_ = 0, count_ = 0;
  bool narrow_;
  AlignedVector<T> scratch_;
};

}  // namespace braid
