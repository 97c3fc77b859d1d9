#include "kernels/gemm.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/profile.h"
#include "kernels/autograd.h"
#include "kernels/small_product.h"

namespace braid {
namespace {

constexpr int64_t kRows = 64, kColumns = 256, kDepth = 512;  // of a block
constexpr int64_t kRowStep = 8;  // blocks of other heights are padded: each height is a kernel

bool has_plain_rows(const at::Tensor& t) {
  return t.stride(1) == 1 || t.size(1) == 1;
}

bool has_plain_columns(const at::Tensor& t) {
  return t.stride(0) == 1 || t.size(0) == 1;
}

/// The memory of one thread.
struct Scratch {
  std::vector<float> a, b, c;
  int64_t packed_column = -1;  // whose columns of b, over the whole depth, are in `b`
};

// [rows, columns] with unit stride down the columns -> row-major.
void pack_columns(const float* from, int64_t stride, float* to, int64_t rows, int64_t columns) {
  BRAID_CPU(transpose<float>)(from, stride, to, columns, columns, rows);
}

struct Problem {
  const float *a, *b;
  float* c;
  int64_t m, n, k, lda, ldb, ldc;  // of what lies without gaps: rows, or columns of `..._flipped`
  bool a_flipped, b_flipped, accumulate;

  void block(int64_t m0, int64_t n0, int64_t rows, int64_t columns, Scratch& scratch) const {
    const int64_t tall = (rows + kRowStep - 1) / kRowStep * kRowStep;
    float* out = c + m0 * ldc + n0;
    int64_t out_stride = ldc;
    if (tall != rows) {
      scratch.c.resize(tall * columns);
      out = scratch.c.data();
      out_stride = columns;
      if (accumulate) {
        copy_rows(c + m0 * ldc + n0, ldc, out, columns, rows, columns);
      }
    }
    if (b_flipped && scratch.packed_column != n0) {
      scratch.b.resize(k * columns);
      pack_columns(b + n0 * ldb, ldb, scratch.b.data(), k, columns);
      scratch.packed_column = n0;
    }
    for (int64_t k0 = 0; k0 < k; k0 += kDepth) {
      const int64_t depth = std::min(kDepth, k - k0);
      const float* a_block = a + (a_flipped ? k0 * lda + m0 : m0 * lda + k0);
      int64_t a_stride = lda;
      if (a_flipped || tall != rows) {
        scratch.a.resize(tall * depth);
        if (a_flipped) {
          pack_columns(a_block, lda, scratch.a.data(), rows, depth);
        } else {
          copy_rows(a_block, lda, scratch.a.data(), depth, rows, depth);
        }
        a_block = scratch.a.data();
        a_stride = depth;
      }
      const float* b_block = b + (b_flipped ? n0 * ldb + k0 : k0 * ldb + n0);
      int64_t b_stride = ldb;
      if (b_flipped) {
        b_block = scratch.b.data() + k0 * columns;
        b_stride = columns;
      }
      at::native::cpublas::brgemm(tall,
                                  columns,
                                  depth,
                                  a_stride,
                                  b_stride,
                                  out_stride,
                                  accumulate || k0 > 0,
                                  a_block,
                                  b_block,
                                  out);
    }
    if (tall != rows) {
      copy_rows(out, columns, c + m0 * ldc + n0, ldc, rows, columns);
    }
  }

  static void copy_rows(const float* from,
                        int64_t stride,
                        float* to,
                        int64_t to_stride,
                        int64_t rows,
                        int64_t count) {
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(from + row * stride, count, to + row * to_stride);
    }
  }
};

void multiply_blocks(const Problem& p) {
  // A block of columns stays with its thread while rows go by: packed columns are packed once.
  int64_t columns = kColumns;
  const int64_t threads = at::get_num_threads(), row_blocks = (p.m + kRows - 1) / kRows;
  while (columns > 64 && row_blocks * ((p.n + columns - 1) / columns) < 2 * threads) {
    columns /= 2;
  }
  const int64_t column_blocks = (p.n + columns - 1) / columns;
  at::parallel_for(0, row_blocks * column_blocks, 1, [&](int64_t begin, int64_t end) {
    Scratch scratch;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t m0 = i % row_blocks * kRows, n0 = i / row_blocks * columns;
      p.block(m0, n0, std::min(kRows, p.m - m0), std::min(columns, p.n - n0), scratch);
    }
    at::native::cpublas::brgemm_release();
  });
}

class LinearFunction : public Function<LinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x_TI, const at::Tensor& w_OI) {
    ctx->save_for_backward({x_TI, w_OI});
    return multiplied(x_TI, w_OI.t());
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto dy_TO = gradients[0].contiguous();
    return {ctx->needs_input_grad(0) ? multiplied(dy_TO, saved[1]) : at::Tensor(),
            ctx->needs_input_grad(1) ? multiplied(dy_TO.t(), saved[0]) : at::Tensor()};
  }
};

}  // namespace

void multiply(const at::Tensor& a, const at::Tensor& b, at::Tensor& c, bool accumulate) {
  const int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  require(b.size(0) == k && c.size(0) == m && c.size(1) == n,
          "[multiply] shapes do not fit: ",
          a.sizes(),
          " ",
          b.sizes(),
          " -> ",
          c.sizes());
  count_flops(2 * m * n * k);
  constexpr int64_t kWorthBlocks = 1 << 14;  // multiplications
  const bool plain = a.scalar_type() == at::kFloat && m * n * k >= kWorthBlocks && m >= 4 &&
                     has_plain_rows(c) && (has_plain_rows(a) || has_plain_columns(a)) &&
                     (has_plain_rows(b) || has_plain_columns(b));
  if (!plain) {
    if (accumulate) {
      c.addmm_(a, b);
    } else {
      at::mm_out(c, a, b);
    }
    return;
  }
  const bool a_flipped = !has_plain_rows(a), b_flipped = !has_plain_rows(b);
  multiply_blocks({a.const_data_ptr<float>(),
                   b.const_data_ptr<float>(),
                   c.data_ptr<float>(),
                   m,
                   n,
                   k,
                   a.stride(a_flipped ? 1 : 0),
                   b.stride(b_flipped ? 1 : 0),
                   c.stride(0),
                   a_flipped,
                   b_flipped,
                   accumulate});
}

at::Tensor multiplied(const at::Tensor& a, const at::Tensor& b) {
  auto c = at::empty({a.size(0), b.size(1)}, a.options());
  multiply(a, b, c);
  return c;
}

at::Tensor linear_product(const at::Tensor& x, const at::Tensor& w) {
  auto sizes = x.sizes().vec();
  sizes.back() = w.size(0);
  return LinearFunction::apply(x.reshape({-1, x.size(-1)}), w).view(sizes);
}

}  // namespace braid
