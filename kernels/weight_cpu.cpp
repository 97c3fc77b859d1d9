// Local letters: I inputs and O outputs of a matrix.
#include "kernels/weight_cpu.h"

#include <algorithm>
#include <chrono>

#include <ATen/ATen.h>

#include "core/pages.h"
#include "kernels/codec.h"
#include "kernels/gemm.h"

namespace braid {
namespace {

// A decoded block is used at once, while it lies in the cache.
constexpr int64_t kBlockBytes = 2 << 20;
constexpr int64_t kTile = 128;  // blocks begin where scales do

class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  ~Stopwatch() {
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// The pages of mapped codes, present while it lives.
class MappedCodes {
 public:
  explicit MappedCodes(const Weight& weight) : weight_(weight) {
    if (weight_.mapped) {
      const Stopwatch waiting(product_times().waiting);
      read_pages(weight_.values.const_data_ptr(), weight_.values.nbytes());
    }
  }
  ~MappedCodes() {
    if (weight_.mapped) {
      release_mapped_pages(weight_.values.const_data_ptr(), weight_.values.nbytes());
    }
  }
  MappedCodes(const MappedCodes&) = delete;
  MappedCodes& operator=(const MappedCodes&) = delete;

 private:
  const Weight& weight_;
};

int64_t block_length(int64_t other_length, const at::Tensor& like) {
  const int64_t fitting = kBlockBytes / (other_length * static_cast<int64_t>(like.element_size()));
  return std::max(kTile, fitting / kTile * kTile);
}

at::Tensor decoded(const Weight& weight,
                   int64_t first_row,
                   int64_t first_column,
                   int64_t rows,
                   int64_t columns,
                   at::Tensor& scratch) {
  const Stopwatch decoding(product_times().decoding);
  auto block = scratch.narrow(0, 0, rows * columns).view({rows, columns});
  decode_block({weight.values, weight.scales}, first_row, first_column, block);
  return block;
}

}  // namespace

ProductTimes& product_times() {
  static thread_local ProductTimes times;
  return times;
}

void multiply_by_rows_cpu(const at::Tensor& x_TI,
                          const Weight& weight,
                          int64_t first_row,
                          at::Tensor& out_TO) {
  const MappedCodes present(weight);
  const int64_t in = weight.columns(), rows = out_TO.size(1);
  const int64_t length = std::min(rows, block_length(in, x_TI));
  auto scratch = at::empty({length * in}, x_TI.options());
  for (int64_t row = 0; row < rows; row += length) {
    const int64_t count = std::min(length, rows - row);
    const auto block_OI = decoded(weight, first_row + row, 0, count, in, scratch);
    const Stopwatch multiplying(product_times().multiplying);
    auto columns = out_TO.narrow(1, row, count);
    multiply(x_TI, block_OI.t(), columns);
  }
}

// Blocks of columns: no partial sums, so bfloat16 results are rounded once.
void multiply_by_columns_cpu(const at::Tensor& dy_TO,
                             const Weight& weight,
                             int64_t first_row,
                             at::Tensor& out_TI) {
  const MappedCodes present(weight);
  const int64_t in = weight.columns(), rows = dy_TO.size(1);
  const int64_t length = std::min(in, block_length(rows, dy_TO));
  auto scratch = at::empty({rows * length}, dy_TO.options());
  for (int64_t column = 0; column < in; column += length) {
    const int64_t count = std::min(length, in - column);
    const auto block_OC = decoded(weight, first_row, column, rows, count, scratch);
    const Stopwatch multiplying(product_times().multiplying);
    auto columns = out_TI.narrow(1, column, count);
    multiply(dy_TO, block_OC, columns);
  }
}

}  // namespace braid
