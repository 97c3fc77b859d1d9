#include "kernels/newton_schulz_cpu.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/Parallel.h>

#include "core/aligned.h"
#include "core/sizes.h"
#include "kernels/cpu/matrix_loops.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/tile_products.h"
#include "kernels/cpu/update_loops.h"
#include "kernels/update_cpu.h"

namespace braid {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements that are worth a thread

/// The work memory of one matrix, and the iteration on it. Called from one of several threads it
/// runs on that alone, otherwise on all; the bits are the same either way. Letters: X [n, m] with
/// n <= m; a tall matrix is X^T, and stays that.
template <class T>
class NewtonSchulz {
 public:
  explicit NewtonSchulz(const NewtonSchulzProblem& problem)
      : problem_(problem),
        is_tall_(problem.rows > problem.cols),
        n_(std::min(problem.rows, problem.cols)),
        m_(std::max(problem.rows, problem.cols)),
        x_(n_ * m_),
        next_(n_ * m_),
        gram_(n_ * n_),
        polynomial_(n_ * n_),
        first_(problem.gram ? n_ * n_ : 0),
        product_(problem.gram ? n_ * n_ : 0) {}

  /// The matrix as given, and the result where it was.
  T* matrix() { return x_.data(); }

  void run() {
    normalize();
    const auto& all = problem_.polynomials;
    for (std::size_t i = 0; i < all.size(); ++i) {
      gram();
      polynomial(all[i]);
      if (problem_.gram && i + 1 < all.size()) {
        polynomial_after(all[++i]);
      }
      advance();
    }
  }

 private:
  using Products = TileProducts<T>;

  void normalize() {
    const double norm = std::sqrt(squared_norm_cpu(matrix(), n_ * m_));
    const T by = static_cast<T>(norm < 1e-20 ? 1e-20 : norm);
    at::parallel_for(0, n_ * m_, kGrain, [&](int64_t begin, int64_t end) {
      BRAID_CPU(divide_elements<T>)(matrix() + begin, end - begin, by);
    });
  }

  // The right operand [k, n] of a product.
  void pack(const GemmOperand& b, int64_t k, int64_t n) {
    const Products& products = products_of_thread();
    products.make_room(k, n, packed_);
    for_each_of(blocks(n, Products::kColumns), [&](int64_t i) {
      const int64_t first = i * Products::kColumns;
      products.pack_columns(b, first, std::min(n, first + Products::kColumns), packed_);
    });
  }

  Products& products_of_thread() const {
    static thread_local Products wide, bf16(true);
    return problem_.bfloat16_products ? bf16 : wide;
  }

  // Calls f(products, first row, rows) for blocks of rows, the last ones first: in a triangle they
  // are the longest.
  template <class F>
  void for_each_block(int64_t all, const F& f) const {
    constexpr int64_t kMost = 96;
    const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
    const int64_t tile = products_of_thread().tile_rows(), least = blocks(24, tile) * tile;
    const int64_t rows =
        threads == 1 ? kMost : std::clamp(blocks(all, 4 * threads * tile) * tile, least, kMost);
    const int64_t count = blocks(all, rows);
    for_each_of(count, [&](int64_t i) {
      const int64_t first = (count - 1 - i) * rows;
      f(products_of_thread(), first, std::min(rows, all - first));
    });
  }

  // Copies to the right of the diagonal, in the columns [first, first + rows), what is left of it.
  void mirror(T* symmetric, int64_t first, int64_t rows) {
    BRAID_CPU(transpose<T>)(symmetric + first * n_, n_, symmetric + first, n_, rows, first);
    for (int64_t row = first; row < first + rows; ++row) {
      for (int64_t column = first; column < row; ++column) {
        symmetric[column * n_ + row] = symmetric[row * n_ + column];
      }
    }
  }

  // A = X X^T
  void gram() {
    const int64_t stride = is_tall_ ? n_ : m_;
    const auto x_nm = Products::operand(x_.data(), stride, /*by_columns=*/is_tall_),
               x_mn = Products::operand(x_.data(), stride, /*by_columns=*/!is_tall_);
    pack(x_mn, m_, n_);
    for_each_block(n_, [&](Products& products, int64_t first, int64_t rows) {
      products.multiply_lower(x_nm, packed_, gram_.data(), n_, first, rows);
      mirror(gram_.data(), first, rows);
    });
  }

  // C = A B of matrices that commute, so that it is symmetric as they are.
  void symmetric_product(const AlignedVector<T>& a,
                         const AlignedVector<T>& b,
                         AlignedVector<T>& c) {
    const auto left = Products::operand(a.data(), n_, /*by_columns=*/false);
    pack(Products::operand(b.data(), n_, /*by_columns=*/false), n_, n_);
    for_each_block(n_, [&](Products& products, int64_t first, int64_t rows) {
      products.multiply_lower(left, packed_, c.data(), n_, first, rows);
      mirror(c.data(), first, rows);
    });
  }

  // P <- P' P, where P' is the polynomial of the next iteration: A' = A P P is the Gram matrix
  // there
  void polynomial_after(const std::array<double, 3>& factors) {
    std::swap(first_, polynomial_);
    symmetric_product(gram_, first_, product_);
    symmetric_product(product_, first_, gram_);
    polynomial(factors);
    symmetric_product(polynomial_, first_, product_);
    std::swap(polynomial_, product_);
  }

  // P = a I + b A + c A A
  void polynomial(const std::array<double, 3>& factors) {
    const T a = static_cast<T>(factors[0]), b = static_cast<T>(factors[1]),
            c = static_cast<T>(factors[2]);
    const auto gram = Products::operand(gram_.data(), n_, /*by_columns=*/false);
    pack(gram, n_, n_);
    for_each_block(n_, [&](Products& products, int64_t first, int64_t rows) {
      products.multiply_lower(gram, packed_, polynomial_.data(), n_, first, rows);
      for (int64_t row = first; row < first + rows; ++row) {
        T* result = polynomial_.data() + row * n_;
        BRAID_CPU(polynomial_elements<T>)(gram_.data() + row * n_, result, row + 1, b, c);
        result[row] += a;
      }
      mirror(polynomial_.data(), first, rows);
    });
  }

  // X <- P X, or X^T <- X^T P
  void advance() {
    const int64_t columns = is_tall_ ? n_ : m_;
    const auto x = Products::operand(x_.data(), columns, /*by_columns=*/false),
               p = Products::operand(polynomial_.data(), n_, /*by_columns=*/false);
    const auto& left = is_tall_ ? x : p;
    pack(is_tall_ ? p : x, n_, columns);
    for_each_block(is_tall_ ? m_ : n_, [&](Products& products, int64_t first, int64_t rows) {
      auto block = left;
      block.data = static_cast<const T*>(left.data) + first * left.stride;
      products.multiply(block, packed_, next_.data() + first * columns, columns, rows);
    });
    std::swap(x_, next_);
  }

  const NewtonSchulzProblem& problem_;
  bool is_tall_;
  int64_t n_, m_;
  AlignedVector<T> x_, next_;  // as given
  AlignedVector<T> gram_, polynomial_;
  AlignedVector<T> first_, product_;  // P of the first of two iterations, and work memory
  typename Products::Packed packed_;
};

}  // namespace

// Each thread takes whole matrices as long as every one gets as many; the others go through one by
// one, on all threads.
template <class T>
void newton_schulz_cpu(const NewtonSchulzProblem& problem,
                       const std::function<void(int64_t, T*)>& read,
                       const std::function<void(int64_t, const T*)>& write) {
  const auto run = [&](int64_t begin, int64_t end) {
    NewtonSchulz<T> iteration(problem);
    for (int64_t i = begin; i < end; ++i) {
      read(i, iteration.matrix());
      iteration.run();
      write(i, iteration.matrix());
    }
  };
  const int64_t threads = at::get_num_threads(), shared = problem.count / threads * threads;
  at::parallel_for(0, shared, 1, run);
  if (shared < problem.count) {
    run(shared, problem.count);
  }
}

template <class T>
void newton_schulz_cpu(const NewtonSchulzProblem& problem, const T* x, T* result) {
  const int64_t elements = problem.rows * problem.cols;
  newton_schulz_cpu<T>(
      problem,
      [&](int64_t i, T* matrix) { std::copy_n(x + i * elements, elements, matrix); },
      [&](int64_t i, const T* matrix) { std::copy_n(matrix, elements, result + i * elements); });
}

#define BRAID_INSTANTIATE(T)                                                 \
  template void newton_schulz_cpu(const NewtonSchulzProblem&, const T*, T*); \
  template void newton_schulz_cpu(const NewtonSchulzProblem&,                \
                                  const std::function<void(int64_t, T*)>&,   \
                                  const std::function<void(int64_t, const T*)>&);
BRAID_INSTANTIATE(double)
BRAID_INSTANTIATE(float)
#undef BRAID_INSTANTIATE

}  // namespace braid
