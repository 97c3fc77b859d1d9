#pragma once
// The CPU driver of newton_schulz.h; T is float or double.
#include <array>
#include <cstdint>
#include <functional>
#include <vector>

namespace braid {

struct NewtonSchulzProblem {
  int64_t count, rows, cols;
  std::vector<std::array<double, 3>> polynomials;  // of each iteration
  bool bfloat16_products;
  bool gram;
};

/// x, result [count, rows, cols].
template <class T>
void newton_schulz_cpu(const NewtonSchulzProblem& problem, const T* x, T* result);

/// The same of matrices that `read(i, x)` puts into x and whose results `write(i, x)` takes from
/// there, on the thread that has matrix i: beside them there is memory for one matrix a thread.
template <class T>
void newton_schulz_cpu(const NewtonSchulzProblem& problem,
                       const std::function<void(int64_t i, T* x)>& read,
                       const std::function<void(int64_t i, const T* x)>& write);

}  // namespace braid
