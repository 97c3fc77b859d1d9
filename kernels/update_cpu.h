#pragma once
// The CPU driver of update.h; T is float or double.
#include <cstdint>
#include <vector>

#include "kernels/cpu/update_loops.h"
#include "kernels/newton_schulz_cpu.h"

namespace braid {

template <class T>
double squared_norm_cpu(const T* x, int64_t count);

template <class T>
struct AdamWProblem {
  int64_t count;
  T* value;
  const T* gradient;
  T *exp_avg, *exp_avg_sq;
  AdamWFactors<T> factors;
};
template <class T>
void update_by_adamw_cpu(const AdamWProblem<T>& problem);

/// One matrix of a stack: decay = 1 - learning_rate * weight_decay, rate = learning_rate *
/// update_rms * sqrt(max(r, c)).
template <class T>
struct MuonMatrix {
  T* value;
  const T* gradient;
  T* momentum;
  T decay, rate;
};
template <class T>
struct MuonProblem {
  std::vector<MuonMatrix<T>> matrices;
  T momentum, gradient_scale;
  NewtonSchulzProblem newton_schulz;
};
template <class T>
void update_by_muon_cpu(const MuonProblem<T>& problem);

}  // namespace braid
