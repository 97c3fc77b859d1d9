// Local letters: I inputs and O outputs of a matrix.
#include "kernels/weight_cpu.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <utility>

#include <ATen/ATen.h>

#include "core/aligned.h"
#include "core/pages.h"
#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/codec.h"
#include "kernels/codec_cpu.h"
#include "kernels/cpu/bf16_rows_loops.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/tile_products.h"

namespace braid {
namespace {

/// Seconds since it was made, and since it was asked last.
class Stopwatch {
 public:
  double lap() {
    const auto now = Clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
};

void add(ProductTimes& sum, const ProductTimes& more, double share = 1) {
  sum.multiplying += share * more.multiplying;
  sum.decoding += share * more.decoding;
  sum.waiting += share * more.waiting;
}

CodedOperand coded_operand(const QuantizedMatrixProduct& product) {
  const auto codes = code_arrays({product.weight.values, product.weight.scales});
  const bool fp8 = codes.format == CodeFormat::kFp8;
  const int64_t scale_columns = fp8 ? kFp8Tile : kFp4Group;
  return {.values = codes.values,
          .scales = codes.scales,
          .fp8 = fp8,
          .float_scales = codes.float_scales,
          .turned = !product.by_columns,
          .rounded = product.a.scalar_type() == at::kBFloat16,
          .row_codes = codes.columns,
          .first_row = product.first_row,
          .scale_rows = fp8 ? kFp8Tile : 1,
          .scale_columns = scale_columns,
          .scales_stride = blocks(codes.columns, scale_columns)};
}

/// One of the products while it runs. Its panels are divided among tasks. Mapped codes are read
/// before the first task uses them, while those of the next products are asked for, and let go
/// after the last one.
struct Running {
  Running(const QuantizedMatrixProduct& its, int64_t width)
      : product(its),
        b(coded_operand(its)),
        a{its.a.const_data_ptr(),
          its.a.stride(0),
          /*by_columns=*/false,
          its.a.scalar_type() == at::kBFloat16,
          /*rounded=*/false},
        m(its.a.size(0)),
        n(its.out.size(1)),
        k(its.a.size(1)),
        panels(blocks(n, width)) {}

  const QuantizedMatrixProduct& product;
  CodedOperand b;
  GemmOperand a;
  int64_t m, n, k, panels;
  std::once_flag is_read = {};
  std::atomic_flag is_asked_for = {};
  std::atomic<int64_t> panels_left = panels;
};

/// Memory of one thread.
struct Scratch {
  AlignedVector<uint32_t> panel, left;
  AlignedVector<float> scales, sums;
};

template <class T>
T* with_room(AlignedVector<T>& memory, int64_t size) {
  if (static_cast<int64_t>(memory.size()) < size) {
    memory.resize(size);
  }
  return memory.data();
}

class QuantizedProducts {
 public:
  QuantizedProducts(const std::vector<QuantizedMatrixProduct>& products, bool accumulate)
      // All of one type: bfloat16 in pairs where the machine multiplies those.
      : kernels_(products.front().a.scalar_type() == at::kBFloat16 ? gemm_of_bf16()
                                                                   : gemm_of_floats()),
        accumulate_(accumulate),
        keeps_pages_(MappedPagesKept::on_this_thread()) {
    for (const auto& product : products) {
      running_.push_back(std::make_unique<Running>(product, kernels_.width));
      count_flops(2 * running_.back()->m * running_.back()->n * running_.back()->k);
    }
  }

  void run() {
    int64_t all_panels = 0;
    for (const auto& each : running_) {
      all_panels += each->panels;
    }
    // What is packed of the left operand serves all panels of a task; each thread gets several.
    const int64_t threads = at::get_num_threads();
    const int64_t at_once =
        std::clamp(all_panels / (4 * threads), int64_t{1}, kColumnsOfATask / kernels_.width);
    struct Task {
      std::size_t product;
      int64_t first, count;
    };
    std::vector<Task> tasks;
    for (std::size_t i = 0; i < running_.size(); ++i) {
      for (int64_t first = 0; first < running_[i]->panels; first += at_once) {
        tasks.push_back({i, first, std::min(at_once, running_[i]->panels - first)});
      }
    }
    std::mutex mutex;
    ProductTimes times;
    on_each_thread(static_cast<int64_t>(tasks.size()), [&](const auto& for_each) {
      static thread_local Scratch scratch;
      ProductTimes own;
      for_each([&](int64_t i) {
        const auto& [product, first, count] = tasks[static_cast<std::size_t>(i)];
        make_present(product, own);
        multiply(*running_[product], first, count, scratch, own);
        release(*running_[product], count);
      });
      const std::lock_guard lock(mutex);
      add(times, own);
    });
    add(product_times(), times, 1.0 / static_cast<double>(threads));
  }

 private:
  static constexpr int64_t kColumnsOfATask = 256;
  static constexpr int64_t kBytesAhead = 32 << 20;  // enough requests to keep a disk busy
  static constexpr int64_t kLda = kCodedUnits + 16;
  static constexpr int64_t kTimedSteps = 8;  // of so many one: a look at the clock costs as much as
                                             // decoding a hundred codes

  void make_present(std::size_t index, ProductTimes& times) {
    auto& its = *running_[index];
    const auto& weight = its.product.weight;
    if (!weight.mapped()) {
      return;
    }
    Stopwatch waiting;
    std::call_once(its.is_read, [&] {
      int64_t ahead = 0;
      for (auto next = index + 1; next < running_.size() && ahead < kBytesAhead; ++next) {
        const auto& later = running_[next]->product.weight;
        if (!running_[next]->is_asked_for.test_and_set()) {
          later.prefetch();
        }
        ahead += later.nbytes();
      }
      read_pages(weight.values.const_data_ptr(), weight.values.nbytes());
    });
    times.waiting += waiting.lap();
  }

  void release(Running& its, int64_t panels) const {
    const auto& weight = its.product.weight;
    if (its.panels_left.fetch_sub(panels) == panels && weight.mapped() && !keeps_pages_) {
      release_mapped_pages(weight.values.const_data_ptr(), weight.values.nbytes());
    }
  }

  // The columns of `count` panels, a few rows of one panel at a time: they are decoded into the L1
  // cache and multiplied there by all rows of the left operand.
  void multiply(Running& its, int64_t first, int64_t count, Scratch& scratch, ProductTimes& times) {
    const int64_t width = kernels_.width, column = first * width;
    const int64_t columns = std::min(count * width, its.n - column);
    const bool rounds = its.product.out.scalar_type() == at::kBFloat16;
    const int64_t ldc = rounds ? columns : its.product.out.stride(0);
    float* c = rounds ? with_room(scratch.sums, its.m * columns)
                      : its.product.out.template mutable_data_ptr<float>() + column;
    auto* narrow =
        rounds ? static_cast<uint16_t*>(its.product.out.mutable_data_ptr()) + column : nullptr;
    for (int64_t i = 0; i < its.m && rounds && accumulate_; ++i) {
      BRAID_CPU(widen)(narrow + i * its.product.out.stride(0), c + i * ldc, columns);
    }
    const KeptRegisters kept(kernels_);
    const int64_t most = kCodedUnits * kernels_.pair, groups = blocks(its.k, its.b.scale_columns);
    uint32_t* panel = with_room(scratch.panel, (kCodedUnits + 8) * width);
    float* scales = with_room(scratch.scales, count * groups * width);
    const auto width_of = [&](int64_t i) { return std::min(width, columns - i * width); };
    uint32_t* a = with_room(scratch.left, its.m * kLda);
    Stopwatch whole, part;
    ProductTimes some;
    for (int64_t i = 0; i < count && its.b.turned; ++i) {
      kernels_.turn_scales(
          its.b, column + i * width, width_of(i), groups, scales + i * groups * width);
    }
    for (int64_t k = 0; k < its.k; k += most) {
      const int64_t depth = std::min(most, its.k - k);
      const bool is_timed = k / most % kTimedSteps == 0;
      // Never in place: rows of a power of two share sets of the cache and fill its table of pages.
      kernels_.pack_a(its.a, 0, k, its.m, depth, a, kLda);
      for (int64_t i = 0; i < count; ++i) {
        if (is_timed) {
          part.lap();
        }
        kernels_.pack_codes(
            its.b, scales + i * groups * width, k, column + i * width, depth, width_of(i), panel);
        if (is_timed) {
          some.decoding += part.lap();
        }
        kernels_.multiply(a,
                          kLda,
                          panel,
                          c + i * width,
                          ldc,
                          its.m,
                          width_of(i),
                          blocks(depth, kernels_.pair),
                          accumulate_ || k > 0);
        if (is_timed) {
          some.multiplying += part.lap();
        }
      }
    }
    add(times, some, whole.lap() / (some.decoding + some.multiplying));
    for (int64_t i = 0; i < its.m && rounds; ++i) {
      BRAID_CPU(narrow)(c + i * ldc, narrow + i * its.product.out.stride(0), columns);
    }
  }

  GemmKernels kernels_;
  bool accumulate_;
  bool keeps_pages_;
  std::vector<std::unique_ptr<Running>> running_;
};

// float64, which is for exactness and not for speed: in blocks that are decoded into memory.
void multiply_doubles(const QuantizedMatrixProduct& product, bool accumulate) {
  constexpr int64_t kBlockBytes = 2 << 20;
  const auto& [a, weight, out, first_row, by_columns] = product;
  const int64_t in = weight.columns(), rows = by_columns ? a.size(1) : out.size(1);
  const int64_t all = by_columns ? in : rows, other = by_columns ? rows : in;
  const int64_t length = std::max(
      kFp8Tile, kBlockBytes / (other * static_cast<int64_t>(sizeof(double))) / kFp8Tile * kFp8Tile);
  for (int64_t first = 0; first < all; first += length) {
    const int64_t count = std::min(length, all - first);
    auto block = at::empty(by_columns ? at::IntArrayRef{rows, count} : at::IntArrayRef{count, in},
                           a.options());
    decode_block({weight.values, weight.scales},
                 first_row + (by_columns ? 0 : first),
                 by_columns ? first : 0,
                 block);
    auto columns = out.narrow(1, first, count);
    columns.copy_(at::addmm(columns, a, by_columns ? block : block.t(), accumulate ? 1 : 0, 1));
  }
}

}  // namespace

ProductTimes& product_times() {
  static thread_local ProductTimes times;
  return times;
}

void multiply_quantized_cpu(const std::vector<QuantizedMatrixProduct>& products, bool accumulate) {
  std::vector<QuantizedMatrixProduct> of_floats;
  for (const auto& product : products) {
    if (product.a.numel() == 0) {
      continue;
    }
    if (product.a.scalar_type() == at::kDouble) {
      multiply_doubles(product, accumulate);
    } else {
      of_floats.push_back(product);
    }
  }
  if (!of_floats.empty()) {
    QuantizedProducts(of_floats, accumulate).run();
  }
}

}  // namespace braid
