#include "optim/muon.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/each.h"
#include "kernels/cpu/matrix_loops.h"
#include "kernels/cpu/tile_products.h"
#include "kernels/cpu/update_loops.h"
#include "optim/clip.h"

namespace braid {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements that are worth a thread

/// The work memory of one matrix, and the iteration on it. Called from one of several threads it
/// runs on that alone, otherwise on all; the bits are the same either way. Letters: X [n, m] with
/// n <= m; a tall matrix is X^T, and stays that.
template <class T>
class NewtonSchulz {
 public:
  NewtonSchulz(int64_t rows, int64_t cols, const MuonConfig& config)
      : config_(config),
        is_tall_(rows > cols),
        n_(std::min(rows, cols)),
        m_(std::max(rows, cols)),
        x_(n_ * m_),
        next_(n_ * m_),
        gram_(n_ * n_),
        polynomial_(n_ * n_) {}

  /// The matrix as given, and the result where it was.
  T* matrix() { return x_.data(); }

  void run() {
    normalize();
    const int64_t steps = config_.newton_schulz_steps + config_.newton_schulz_final_steps;
    for (int64_t i = 0; i < steps; ++i) {
      const auto [a, b, c] = newton_schulz_polynomial(i, config_);
      gram();
      polynomial(static_cast<T>(a), static_cast<T>(b), static_cast<T>(c));
      advance();
    }
  }

 private:
  using Products = TileProducts<T>;

  void normalize() {
    const double norm = std::sqrt(squared_norm(matrix(), n_ * m_));
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
    return config_.bfloat16_products ? bf16 : wide;
  }

  // Calls f(products, first row, rows) for blocks of rows, the last ones first: in a triangle they
  // are the longest.
  template <class F>
  void for_each_block(int64_t all, const F& f) const {
    constexpr int64_t kTile = kGemmTileRows, kLeast = 4 * kTile, kMost = 16 * kTile;
    const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
    const int64_t rows =
        threads == 1 ? kMost : std::clamp(blocks(all, 4 * threads * kTile) * kTile, kLeast, kMost);
    const int64_t count = blocks(all, rows);
    for_each_of(count, [&](int64_t i) {
      const int64_t first = (count - 1 - i) * rows;
      f(products_of_thread(), first, std::min(rows, all - first));
    });
  }

  // What stands right of the diagonal in the columns [first, first + rows).
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

  // P = a I + b A + c A A
  void polynomial(T a, T b, T c) {
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

  MuonConfig config_;
  bool is_tall_;
  int64_t n_, m_;
  std::vector<T> x_, next_;  // as given
  std::vector<T> gram_, polynomial_;
  typename Products::Packed packed_;
};

/// One matrix of a stack.
template <class T>
struct Work {
  T* value;
  const T* gradient;
  T* momentum;
  T decay, rate;
};

template <class T>
void step_matrix(const Work<T>& work,
                 int64_t elements,
                 T gradient_scale,
                 T momentum,
                 NewtonSchulz<T>& iteration) {
  const auto in_parts = [&](const auto& f) { at::parallel_for(0, elements, kGrain, f); };
  in_parts([&](int64_t begin, int64_t end) {
    BRAID_CPU(momentum_direction<T>)
    (work.gradient + begin,
     work.momentum + begin,
     iteration.matrix() + begin,
     end - begin,
     momentum,
     gradient_scale);
  });
  iteration.run();
  in_parts([&](int64_t begin, int64_t end) {
    BRAID_CPU(decayed_step<T>)
    (work.value + begin, iteration.matrix() + begin, end - begin, work.decay, work.rate);
  });
}

// Each thread takes whole matrices as long as every one gets as many; the others go through one by
// one, on all threads.
template <class T, class F>
void for_each_matrix(
    int64_t count, int64_t rows, int64_t cols, const MuonConfig& config, const F& f) {
  const int64_t threads = at::get_num_threads(), shared = count / threads * threads;
  at::parallel_for(0, shared, 1, [&](int64_t begin, int64_t end) {
    NewtonSchulz<T> iteration(rows, cols, config);
    for (int64_t i = begin; i < end; ++i) {
      f(i, iteration);
    }
  });
  if (shared < count) {
    NewtonSchulz<T> iteration(rows, cols, config);
    for (int64_t i = shared; i < count; ++i) {
      f(i, iteration);
    }
  }
}

void require_stack(const at::Tensor& x, const MuonStack& stack, const char* what) {
  const auto& first = stack.value_Brc;
  require(x.dim() == 3 && x.sizes() == first.sizes() && x.scalar_type() == first.scalar_type() &&
              x.is_contiguous() &&
              (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble),
          "[muon_step] expected contiguous stacks [B, r, c] in float32 or float64; the value is ",
          first.scalar_type(),
          " ",
          first.sizes(),
          ", the ",
          what,
          " ",
          x.scalar_type(),
          " ",
          x.sizes());
}

}  // namespace

std::array<double, 3> newton_schulz_polynomial(int64_t iteration, const MuonConfig& config) {
  return iteration < config.newton_schulz_steps ? std::array{3.4445, -4.7750, 2.0315}
                                                : std::array{2.0, -1.5, 0.5};
}

double newton_schulz_least_flops(int64_t rows, int64_t cols) {
  const auto n = static_cast<double>(std::min(rows, cols)),
             m = static_cast<double>(std::max(rows, cols));
  return 3 * n * n * m + n * n * n;
}

at::Tensor newton_schulz(const at::Tensor& x_Brc, const MuonConfig& config) {
  const auto [B, rows, cols] = sizes<3>(x_Brc);
  require(x_Brc.scalar_type() == at::kFloat || x_Brc.scalar_type() == at::kDouble,
          "[newton_schulz] expected float32 or float64, got ",
          x_Brc.scalar_type());
  const auto given = x_Brc.contiguous();
  auto result = at::empty_like(given);
  const int64_t elements = rows * cols;
  with_wide_type(given.scalar_type(), [&, B = B, rows = rows, cols = cols](auto zero) {
    using T = decltype(zero);
    for_each_matrix<T>(B, rows, cols, config, [&](int64_t i, NewtonSchulz<T>& iteration) {
      std::copy_n(given.const_data_ptr<T>() + i * elements, elements, iteration.matrix());
      iteration.run();
      std::copy_n(iteration.matrix(), elements, result.data_ptr<T>() + i * elements);
    });
  });
  return result;
}

void muon_step(const std::vector<MuonStack>& stacks,
               double gradient_scale,
               const MuonConfig& config) {
  if (stacks.empty()) {
    return;
  }
  const auto& first = stacks.front().value_Brc;
  for (const auto& stack : stacks) {
    require_stack(stack.value_Brc, stack, "value");
    require_stack(stack.gradient_Brc, stack, "gradient");
    require_stack(stack.momentum_Brc, stack, "momentum");
    require(stack.value_Brc.sizes().slice(1) == first.sizes().slice(1) &&
                stack.value_Brc.scalar_type() == first.scalar_type(),
            "[muon_step] stacks of one step must have one shape of matrices and one type");
  }
  const int64_t rows = first.size(1), cols = first.size(2), elements = rows * cols;
  with_wide_type(first.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const double scale = config.update_rms * std::sqrt(static_cast<double>(std::max(rows, cols)));
    std::vector<Work<T>> matrices;
    for (const auto& stack : stacks) {
      for (int64_t b = 0; b < stack.value_Brc.size(0); ++b) {
        matrices.push_back({stack.value_Brc.data_ptr<T>() + b * elements,
                            stack.gradient_Brc.const_data_ptr<T>() + b * elements,
                            stack.momentum_Brc.data_ptr<T>() + b * elements,
                            static_cast<T>(1 - stack.learning_rate * stack.weight_decay),
                            static_cast<T>(stack.learning_rate * scale)});
      }
    }
    const auto count = static_cast<int64_t>(matrices.size());
    for_each_matrix<T>(count, rows, cols, config, [&](int64_t i, NewtonSchulz<T>& iteration) {
      step_matrix(matrices[i],
                  elements,
                  static_cast<T>(gradient_scale),
                  static_cast<T>(config.momentum),
                  iteration);
    });
  });
}

}  // namespace braid
