#include "kernels/gemm.h"

#include <algorithm>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/profile.h"
#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/bf16_rows.h"
#include "kernels/cpu/each.h"
#include "kernels/cpu/gemm_loops.h"
#include "kernels/cpu/tile_products.h"

namespace braid {
namespace {

constexpr int64_t kDepthUnits = 256;       // of a block: a panel's share stays in the L1 cache
constexpr int64_t kPackedUnits = 1 << 20;  // of all right operands packed at once: 4 MB
// Of a block of A: in the L2 cache.
constexpr int64_t kLeastRows = 2 * kGemmTileRows, kMostRows = 16 * kGemmTileRows;
constexpr int64_t kRowsAtOnce = 32;  // that are packed for all panels: in the L1 cache

bool has_plain_rows(const at::Tensor& t) {
  return t.stride(1) == 1 || t.size(1) == 1;
}

bool has_plain_columns(const at::Tensor& t) {
  return t.stride(0) == 1 || t.size(0) == 1;
}

bool is_bf16(const at::Tensor& t) {
  return t.scalar_type() == at::kBFloat16;
}

GemmOperand operand(const at::Tensor& matrix, bool rounded) {
  const bool by_columns = !has_plain_rows(matrix);
  return {matrix.const_data_ptr(),
          matrix.stride(by_columns ? 1 : 0),
          by_columns,
          is_bf16(matrix),
          rounded && !is_bf16(matrix)};
}

struct Product {
  at::Tensor left, right, c;
  GemmOperand a, b;
  int64_t m, n, k;
};

bool same_right(const Product& p, const Product& q) {
  return p.b.data == q.b.data && p.b.stride == q.b.stride && p.b.by_columns == q.b.by_columns &&
         p.b.bf16 == q.b.bf16 && p.b.rounded == q.b.rounded && p.n == q.n && p.k == q.k;
}

/// The rows [k, k + depth) of a product's right operand, packed from `offset` on: for this product,
/// or for one before it that has the same.
struct Share {
  const Product* product;
  int64_t k, depth, offset;
  bool packs;
  uint32_t* packed = nullptr;
};

/// The products of one kind: float32, or bfloat16.
class Products {
 public:
  Products(const GemmKernels& kernels, bool accumulate)
      : kernels_(kernels), accumulate_(accumulate), depth_(kDepthUnits * kernels.pair) {}

  // As many right operands as the buffer holds are packed by all threads together, then multiplied.
  void run(const std::vector<Product>& products) {
    for (auto first = products.begin(); first != products.end();) {
      const auto end = std::find_if(
          first, products.end(), [&](const auto& product) { return !same_right(*first, product); });
      const int64_t width = panels(*first) * kernels_.width;
      // A result that is rounded needs its whole sum at once.
      const bool whole = std::any_of(first, end, [](const auto& p) { return is_bf16(p.c); });
      const int64_t most =
          whole ? first->k : std::max<int64_t>(1, kPackedUnits / width / kDepthUnits) * depth_;
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
  int64_t units(int64_t depth) const { return blocks(depth, kernels_.pair); }
  int64_t panels(const Product& product) const { return blocks(product.n, kernels_.width); }

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
    auto* to = share.packed + kernels_.width * (panel * units(share.depth) + row / kernels_.pair);
    kernels_.pack_b(share.product->b, share.k + row, column, rows, columns, to);
  }

  // Of a block: as many as make the busiest thread's work the least, where fetching the panels
  // costs each block as much as so many more rows.
  static int64_t block_rows(int64_t all_rows) {
    constexpr int64_t kFetching = 8;
    const int64_t threads = at::get_num_threads();
    int64_t best = kLeastRows, least = std::numeric_limits<int64_t>::max();
    for (int64_t rows = kMostRows; rows >= kLeastRows; rows -= kGemmTileRows) {
      const int64_t busiest = blocks(blocks(all_rows, rows), threads) * (rows + kFetching);
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
                  offset = row * p.c.stride(0) + column;
    const bool adds = accumulate_ || share.k > 0;
    if (!is_bf16(p.c)) {
      auto* c = p.c.data_ptr<float>() + offset;
      add_block(share, row, rows, first_panel, count, c, p.c.stride(0), adds);
      return;
    }
    auto* c = mutable_bf16_bits(p.c) + offset;
    auto& sums = scratch<float>(1, rows * columns);
    for (int64_t i = 0; i < rows && adds; ++i) {
      BRAID_CPU(widen)(c + i * p.c.stride(0), sums.data() + i * columns, columns);
    }
    add_block(share, row, rows, first_panel, count, sums.data(), columns, adds);
    for (int64_t i = 0; i < rows; ++i) {
      BRAID_CPU(narrow)(sums.data() + i * columns, c + i * p.c.stride(0), columns);
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
            share.packed +
            kernels_.width * ((first_panel + i) * units(share.depth) + done / kernels_.pair);
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
  static std::vector<T>& scratch(int which, int64_t size) {
    static thread_local std::vector<T> kept[3];
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

bool is_single(const at::Tensor& t) {
  return t.scalar_type() == at::kFloat || is_bf16(t);
}

void check(const MatrixProduct& product) {
  const auto& [a, b, c] = product;
  require(b.size(0) == a.size(1) && c.size(0) == a.size(0) && c.size(1) == b.size(1),
          "[multiply] shapes do not fit: ",
          a.sizes(),
          " ",
          b.sizes(),
          " -> ",
          c.sizes());
  require((is_single(a) && is_single(b) && is_single(c)) ||
              (a.scalar_type() == b.scalar_type() && a.scalar_type() == c.scalar_type()),
          "[multiply] types do not fit: ",
          a.scalar_type(),
          " ",
          b.scalar_type(),
          " -> ",
          c.scalar_type(),
          "; expected one type, or float32 and bfloat16");
}

at::Tensor without_gaps(const at::Tensor& matrix) {
  return has_plain_rows(matrix) || has_plain_columns(matrix) ? matrix : matrix.contiguous();
}

class LinearFunction : public Function<LinearFunction> {
 public:
  static variable_list forward(AutogradContext* ctx,
                               const at::Tensor& x_TI,
                               at::TensorList weights_OI) {
    ctx->set_materialize_grads(false);
    variable_list saved = {x_TI}, results;
    std::vector<MatrixProduct> products;
    for (const auto& w_OI : weights_OI) {
      saved.push_back(w_OI);
      results.push_back(at::empty({x_TI.size(0), w_OI.size(0)}, x_TI.options()));
      products.push_back({x_TI, w_OI.t(), results.back()});
    }
    ctx->save_for_backward(saved);
    multiply_each(products);
    return results;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto& x_TI = saved[0];
    variable_list results(saved.size());
    std::vector<MatrixProduct> of_x, of_weights;
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      if (!gradients[i].defined()) {
        continue;
      }
      const auto dy_TO = gradients[i].contiguous();
      const auto& w_OI = saved[i + 1];
      if (ctx->needs_input_grad(0)) {
        if (!results[0].defined()) {
          results[0] = at::empty(x_TI.sizes(), x_TI.options());
        }
        of_x.push_back({dy_TO, w_OI, results[0]});
      }
      if (ctx->needs_input_grad(i + 1)) {
        results[i + 1] = at::empty(w_OI.sizes(), w_OI.options());
        of_weights.push_back({dy_TO.t(), x_TI, results[i + 1]});
      }
    }
    for (std::size_t i = 0; i < of_x.size(); ++i) {
      multiply_each({of_x[i]}, /*accumulate=*/i > 0);
    }
    multiply_each(of_weights);
    return results;
  }
};

}  // namespace

void multiply(const at::Tensor& a, const at::Tensor& b, at::Tensor& c, bool accumulate) {
  multiply_each({{a, b, c}}, accumulate);
}

void multiply_each(const std::vector<MatrixProduct>& products, bool accumulate) {
  std::vector<Product> of_floats, of_bf16;
  std::vector<std::pair<at::Tensor, at::Tensor>> copied;  // float32 sums -> where they go
  for (const auto& product : products) {
    check(product);
    auto [a, b, c] = product;
    const int64_t m = a.size(0), n = b.size(1), k = a.size(1);
    count_flops(2 * m * n * k);
    constexpr int64_t kWorthBlocks = 1 << 14;  // multiplications
    const bool bf16 = is_bf16(a) || is_bf16(b);
    const bool few = m < 4 || m * n * k < kWorthBlocks;
    if (!is_single(a) || (few && !bf16 && !is_bf16(c)) || m * n * k == 0) {
      if (accumulate) {
        c.addmm_(a.to(c.scalar_type()), b.to(c.scalar_type()));
      } else {
        at::mm_out(c, a.to(c.scalar_type()), b.to(c.scalar_type()));
      }
      continue;
    }
    // A rounded sum takes its right operand whole; where that is too large, or where rows have
    // gaps, the sum goes through memory.
    if (!has_plain_rows(c) || (is_bf16(c) && n * k > kPackedUnits)) {
      const auto sums = accumulate ? c.to(at::kFloat, false, true).contiguous()
                                   : at::empty(c.sizes(), c.options().dtype(at::kFloat));
      copied.emplace_back(sums, c);
      c = sums;
    }
    a = without_gaps(a);
    b = without_gaps(b);
    (bf16 ? of_bf16 : of_floats).push_back({a, b, c, operand(a, bf16), operand(b, bf16), m, n, k});
  }
  Products(BRAID_CPU(gemm_of_floats)(), accumulate).run(of_floats);
  Products(BRAID_CPU(gemm_of_bf16)(), accumulate).run(of_bf16);
  for (auto& [sums, c] : copied) {
    c.copy_(sums);
  }
}

at::Tensor multiplied(const at::Tensor& a, const at::Tensor& b) {
  auto c = at::empty({a.size(0), b.size(1)}, a.options());
  multiply(a, b, c);
  return c;
}

std::vector<at::Tensor> linear_products(const at::Tensor& x,
                                        const std::vector<at::Tensor>& weights) {
  auto results = LinearFunction::apply(x.reshape({-1, x.size(-1)}), at::TensorList(weights));
  auto sizes = x.sizes().vec();
  for (auto& y : results) {
    sizes.back() = y.size(1);
    y = y.view(sizes);
  }
  return results;
}

at::Tensor linear_product(const at::Tensor& x, const at::Tensor& w) {
  return linear_products(x, {w})[0];
}

}  // namespace braid
