#include "optim/muon.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/sizes.h"
#include "kernels/attention_cpu.h"
#include "kernels/autograd.h"
#include "kernels/small_product.h"
#include "kernels/update_cpu.h"
#include "optim/clip.h"

namespace braid {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements that are worth a thread

/// The work memory of one matrix, and the iteration on it. A symmetric matrix is computed in strips
/// of rows up to the diagonal and mirrored. Called from one of several threads it runs on that
/// alone, otherwise on all: blocks are the same either way, and so are the bits.
template <class T>
class NewtonSchulz {
 public:
  NewtonSchulz(int64_t rows, int64_t cols)
      : is_tall_(rows > cols),
        n_(std::min(rows, cols)),
        m_(std::max(rows, cols)),
        strip_(n_ < 1024 ? 32 : 64),
        strips_((n_ + strip_ - 1) / strip_),
        x_(n_ * m_),
        next_(n_ * m_),
        x_t_(n_ * m_),
        gram_(n_ * n_),
        polynomial_(n_ * n_) {}

  /// The matrix as given, and the result where it was.
  T* matrix() { return is_tall_ ? x_t_.data() : x_.data(); }

  void run(const MuonConfig& config) {
    normalise();
    transpose_all();
    const int64_t steps = config.newton_schulz_steps + config.newton_schulz_final_steps;
    for (int64_t i = 0; i < steps; ++i) {
      const auto [a, b, c] = newton_schulz_polynomial(i, config);
      gram();
      polynomial(static_cast<T>(a), static_cast<T>(b), static_cast<T>(c));
      advance(/*transposed=*/i + 1 < steps || is_tall_);
    }
  }

 private:
  void normalise() {
    const double norm = std::sqrt(squared_norm(matrix(), n_ * m_));
    const T by = static_cast<T>(norm < 1e-20 ? 1e-20 : norm);
    at::parallel_for(0, n_ * m_, kGrain, [&](int64_t begin, int64_t end) {
      BRAID_CPU(divide_elements<T>)(matrix() + begin, end - begin, by);
    });
  }

  void transpose_all() {
    const int64_t rows = is_tall_ ? m_ : n_, cols = is_tall_ ? n_ : m_;
    const T* from = matrix();
    T* to = is_tall_ ? x_.data() : x_t_.data();
    at::parallel_for(0, rows, kGrain / cols + 1, [&](int64_t begin, int64_t end) {
      BRAID_CPU(transpose<T>)(from + begin * cols, cols, to + begin, rows, end - begin, cols);
    });
  }

  // Calls f(first row, rows) for every strip. Their lengths grow with their number: the first and
  // the last go together, so that equal parts of the list are equal work.
  template <class F>
  void for_each_strip(const F& f) {
    at::parallel_for(0, strips_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = (i % 2 == 0 ? i / 2 : strips_ - 1 - i / 2) * strip_;
        f(first, std::min(strip_, n_ - first));
      }
      at::native::cpublas::brgemm_release();
    });
  }

  // What stands left of the strip's diagonal block, above the diagonal.
  void mirror(T* symmetric, int64_t first, int64_t rows) {
    BRAID_CPU(transpose<T>)(symmetric + first * n_, n_, symmetric + first, n_, rows, first);
  }

  // A = X X^T
  void gram() {
    for_each_strip([&](int64_t first, int64_t rows) {
      deep_product(x_.data() + first * m_,
                   x_t_.data(),
                   gram_.data() + first * n_,
                   rows,
                   first + rows,
                   m_,
                   n_,
                   n_);
      mirror(gram_.data(), first, rows);
    });
  }

  // P = a I + b A + c A A
  void polynomial(T a, T b, T c) {
    for_each_strip([&](int64_t first, int64_t rows) {
      const T* gram_rows = gram_.data() + first * n_;
      T* result = polynomial_.data() + first * n_;
      deep_product(gram_rows, gram_.data(), result, rows, first + rows, n_, n_, n_);
      for (int64_t row = 0; row < rows; ++row) {
        BRAID_CPU(polynomial_elements<T>)
        (gram_rows + row * n_, result + row * n_, first + rows, b, c);
        result[row * n_ + first + row] += a;
      }
      mirror(polynomial_.data(), first, rows);
    });
  }

  // X <- P X
  void advance(bool transposed) {
    constexpr int64_t kRows = 64, kColumns = 256;
    const int64_t down = (n_ + kRows - 1) / kRows, across = (m_ + kColumns - 1) / kColumns;
    at::parallel_for(0, down * across, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = i % down * kRows, column = i / down * kColumns;
        const int64_t rows = std::min(kRows, n_ - row), columns = std::min(kColumns, m_ - column);
        T* result = next_.data() + row * m_ + column;
        deep_product(
            polynomial_.data() + row * n_, x_.data() + column, result, rows, columns, n_, m_, m_);
        if (transposed) {
          BRAID_CPU(transpose<T>)(result, m_, x_t_.data() + column * n_ + row, n_, rows, columns);
        }
      }
      at::native::cpublas::brgemm_release();
    });
    std::swap(x_, next_);
  }

  bool is_tall_;
  int64_t n_, m_, strip_, strips_;
  std::vector<T> x_, next_, x_t_;  // [n, m], the same, [m, n]
  std::vector<T> gram_, polynomial_;
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
                 const MuonConfig& config,
                 NewtonSchulz<T>& iteration) {
  const auto in_parts = [&](const auto& f) { at::parallel_for(0, elements, kGrain, f); };
  in_parts([&](int64_t begin, int64_t end) {
    BRAID_CPU(momentum_direction<T>)
    (work.gradient + begin,
     work.momentum + begin,
     iteration.matrix() + begin,
     end - begin,
     static_cast<T>(config.momentum),
     gradient_scale);
  });
  iteration.run(config);
  in_parts([&](int64_t begin, int64_t end) {
    BRAID_CPU(decayed_step<T>)
    (work.value + begin, iteration.matrix() + begin, end - begin, work.decay, work.rate);
  });
}

// Each thread takes whole matrices as long as every one gets as many; the others go through one by
// one, on all threads.
template <class T, class F>
void for_each_matrix(int64_t count, int64_t rows, int64_t cols, const F& f) {
  const int64_t threads = at::get_num_threads(), shared = count / threads * threads;
  at::parallel_for(0, shared, 1, [&](int64_t begin, int64_t end) {
    NewtonSchulz<T> iteration(rows, cols);
    for (int64_t i = begin; i < end; ++i) {
      f(i, iteration);
    }
  });
  if (shared < count) {
    NewtonSchulz<T> iteration(rows, cols);
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
    for_each_matrix<T>(B, rows, cols, [&](int64_t i, NewtonSchulz<T>& iteration) {
      std::copy_n(given.const_data_ptr<T>() + i * elements, elements, iteration.matrix());
      iteration.run(config);
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
    for_each_matrix<T>(count, rows, cols, [&](int64_t i, NewtonSchulz<T>& iteration) {
      step_matrix(matrices[i], elements, static_cast<T>(gradient_scale), config, iteration);
    });
  });
}

}  // namespace braid
