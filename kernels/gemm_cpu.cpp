#include "kernels/gemm_cpu.h"

#include <algorithm>
#include <limits>

#include <ATen/Parallel.h>

#include "core/aligned.h"
#include "core/sizes.h"
#include "kernels/cpu/bf16_rows_loops.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/tile_products.h"
#include "kernels/gemm.h"

namespace braid {
namespace {

constexpr int64_t kDepthUnits = 256;  // of a block: a panel's share stays in the L1 cache
constexpr int64_t kLeastRows = 12;    // of a block of A
constexpr int64_t kRowsAtOnce = 32;   // that are packed for all panels: in the L1 cache

bool same_right(const GemmProduct& p, const GemmProduct& q) {
  return p.b.data == q.b.data && p.b.stride == q.b.stride && p.b.by_columns == q.b.by_columns &&
         p.b.bf16 == q.b.bf16 && p.b.rounded == q.b.rounded && p.n == q.n && p.k == q.k;
}

/// The rows [k, k + depth) of a product's right operand, packed from `offset` on: for this product,
/// or for one before it that has the same.
struct Share {
  const GemmProduct* product;
  int64_t k, depth, offset;
  bool packs;
  uint32_t* packed = nullptr;
};

/// The products of one kind: float32, or bfloat16.
class Products {
 public:
  Products(const GemmKernels& kernels, bool accumulate)
      : kernels_(kernels),
        accumulate_(accumulate),
        depth_(kDepthUnits * kernels.pair / kernels.parts / kRowsAtOnce * kRowsAtOnce) {}

  // As many right operands as the buffer holds are packed by all threads together, then multiplied.
  void run(const std::vector<GemmProduct>& products) {
    for (auto first = products.begin(); first != products.end();) {
      const auto end = std::find_if(
          first, products.end(), [&](const auto& product) { return !same_right(*first, product); });
      const int64_t width = panels(*first) * kernels_.width;
      // A result that is rounded needs its whole sum at once.
      const bool whole = std::any_of(first, end, [](const auto& p) { return p.rounds; });
      const int64_t most =
          whole ? first->k : std::max<int64_t>(1, kPackedUnits / width / units(depth_)) * depth_;
      for (int64_t k = 0; k < first->k; k += most) {
        const int64_t depth = std::min(most, first->k - k);
        // The next piece of a sum waits until the last one stands.
        if (!shares_.empty() && (k > 0 || used_ + units(depth) * width > kPackedUnits)) {
          flush();
        }
        for (auto product = first; product != end; ++product) {
          shares_.push_back({&*product, k, depth, used_, /*packs=*/product == first});
        }
        used_ += units(depth) * width;
      }
      first = end;
    }
    flush();
  }

 private:
  int64_t units(int64_t depth) const { return units_of(kernels_, depth); }
  int64_t panels(const GemmProduct& product) const { return blocks(product.n, kernels_.width); }

  void flush() {
    if (shares_.empty()) {
      return;
    }
    auto& packed = scratch<uint32_t>(0, used_);
    for (auto& share : shares_) {
      share.packed = packed.data() + share.offset;
    }
    pack();
    multiply();
    shares_.clear();
    used_ = 0;
  }

  // Calls f(share, index) for `counts` indices of each share, on all threads.
  template <class F>
  void for_each(const std::vector<int64_t>& counts, const F& f) const {
    std::vector<int64_t> first(counts.size() + 1, 0);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      first[i + 1] = first[i] + counts[i];
    }
    for_each_of(first.back(), [&](int64_t i) {
      const auto share = std::upper_bound(first.begin(), first.end(), i) - first.begin() - 1;
      f(shares_[share], i - first[share]);
    });
  }

  void pack() const {
    std::vector<int64_t> counts;
    for (const auto& share : shares_) {
      counts.push_back(!share.packs                  ? 0
                       : share.product->b.by_columns ? panels(*share.product)
                                                     : blocks(share.depth, kRowsAtOnce));
    }
    // Along what has no gaps: a panel's columns, or rows through all panels.
    for_each(counts, [&](const Share& share, int64_t i) {
      if (share.product->b.by_columns) {
        pack_panel(share, i, 0, share.depth);
        return;
      }
      const int64_t row = i * kRowsAtOnce, rows = std::min(kRowsAtOnce, share.depth - row);
      for (int64_t panel = 0; panel < panels(*share.product); ++panel) {
        pack_panel(share, panel, row, rows);
      }
    });
  }

  void pack_panel(const Share& share, int64_t panel, int64_t row, int64_t rows) const {
    const int64_t column = panel * kernels_.width;
    const int64_t columns = std::min(kernels_.width, share.product->n - column);
    auto* to = share.packed + kernels_.width * (panel * units(share.depth) + units(row));
    kernels_.pack_b(share.product->b, share.k + row, column, rows, columns, to);
  }

  // Of a block: as many as make the busiest thread's work the least.
  int64_t block_rows(int64_t all_rows) const {
    const int64_t threads = at::get_num_threads();
    int64_t best = kernels_.block_rows, least = std::numeric_limits<int64_t>::max();
    for (int64_t rows = best; rows >= kLeastRows; rows -= kernels_.rows) {
      const int64_t busiest =
          blocks(blocks(all_rows, rows), threads) * (rows + kernels_.panel_rows);
      if (busiest < least) {
        least = busiest;
        best = rows;
      }
    }
    return best;
  }

  void multiply() const {
    // Blocks of rows, and of panels where rows alone do not keep the threads busy.
    const int64_t threads = at::get_num_threads();
    int64_t all_rows = 0, most_panels = 1;
    for (const auto& share : shares_) {
      all_rows += share.product->m;
      most_panels = std::max(most_panels, panels(*share.product));
    }
    const int64_t rows = block_rows(all_rows);
    const int64_t row_blocks = blocks(all_rows, rows);
    const int64_t wide = blocks(most_panels, blocks(2 * threads, row_blocks));  // panels a block
    std::vector<int64_t> counts;
    for (const auto& share : shares_) {
      counts.push_back(blocks(share.product->m, rows) * blocks(panels(*share.product), wide));
    }
    for_each(counts, [&](const Share& share, int64_t i) {
      const auto& p = *share.product;
      const int64_t row = i % blocks(p.m, rows) * rows, panel = i / blocks(p.m, rows) * wide;
      multiply_block(
          share, row, std::min(rows, p.m - row), panel, std::min(wide, panels(p) - panel));
    });
  }

  void multiply_block(
      const Share& share, int64_t row, int64_t rows, int64_t first_panel, int64_t count) const {
    const auto& p = *share.product;
    const int64_t column = first_panel * kernels_.width,
                  columns = std::min(count * kernels_.width, p.n - column),
                  offset = row * p.ldc + column;
    const bool adds = accumulate_ || share.k > 0;
    const KeptRegisters kept(kernels_);
    if (!p.rounds) {
      auto* c = static_cast<float*>(p.c) + offset;
      add_block(share, row, rows, first_panel, count, c, p.ldc, adds);
      return;
    }
    auto* c = static_cast<uint16_t*>(p.c) + offset;
    auto& sums = scratch<float>(1, rows * columns);
    for (int64_t i = 0; i < rows && adds; ++i) {
      BRAID_CPU(widen)(c + i * p.ldc, sums.data() + i * columns, columns);
    }
    add_block(share, row, rows, first_panel, count, sums.data(), columns, adds);
    for (int64_t i = 0; i < rows; ++i) {
      BRAID_CPU(narrow)(sums.data() + i * columns, c + i * p.ldc, columns);
    }
  }

  void add_block(const Share& share,
                 int64_t row,
                 int64_t rows,
                 int64_t first_panel,
                 int64_t count,
                 float* c,
                 int64_t ldc,
                 bool adds) const {
    const auto& p = *share.product;
    for (int64_t done = 0; done < share.depth; done += depth_) {
      const int64_t depth = std::min(depth_, share.depth - done);
      int64_t lda = 0;
      const auto* a = packed_rows(
          kernels_, p.a, row, share.k + done, rows, depth, scratch<uint32_t>(2, 0), lda);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t column = (first_panel + i) * kernels_.width;
        const auto* panel =
            share.packed + kernels_.width * ((first_panel + i) * units(share.depth) + units(done));
        kernels_.multiply(a,
                          lda,
                          panel,
                          c + i * kernels_.width,
                          ldc,
                          rows,
                          std::min(kernels_.width, p.n - column),
                          units(depth),
                          adds || done > 0);
      }
    }
  }

  // Memory of this thread that stays: `which` of three.
  template <class T>
  static AlignedVector<T>& scratch(int which, int64_t size) {
    static thread_local AlignedVector<T> kept[3];
    auto& memory = kept[which];
    if (static_cast<int64_t>(memory.size()) < size) {
      memory.resize(size);
    }
    return memory;
  }

  GemmKernels kernels_;
  bool accumulate_;
  int64_t depth_;  // elements of a block along k
  std::vector<Share> shares_;
  int64_t used_ = 0;
};

}  // namespace

void multiply_by_kernels_cpu(const GemmKernels& kernels,
                             const std::vector<GemmProduct>& products,
                             bool accumulate) {
  Products(kernels, accumulate).run(products);
}

void multiply_floats_cpu(const std::vector<GemmProduct>& products, bool accumulate) {
  const bool split = float32_products() == Float32Products::kBf16x3;
  multiply_by_kernels_cpu(split ? gemm_of_split_floats() : gemm_of_floats(), products, accumulate);
}

void multiply_bf16_cpu(const std::vector<GemmProduct>& products, bool accumulate) {
  multiply_by_kernels_cpu(gemm_of_bf16(), products, accumulate);
}

}  // namespace braid
