#pragma once
// The CPU driver of rms_norm.h. E is the type of activations, T its wide type (precision.h).
#include <cstdint>

namespace braid {

template <class E, class T>
struct RmsNormProblem {
  int64_t rows, D;
  T eps;
  const E* x;       // [rows, D]
  const T* weight;  // [D], or null
};

/// y [rows, D]; inverse_rms [rows] is for the backward pass.
template <class E, class T>
void rms_norm_forward_cpu(const RmsNormProblem<E, T>& problem, E* y, T* inverse_rms);

/// The weight's gradient is summed over fixed parts of the rows, on the CPU this many, so that it
/// does not depend on the number of threads.
inline constexpr int64_t kRmsNormParts = 16;

/// dx [rows, D]; dweight_parts [parts, D], null without a weight, is zero when this is called.
template <class E, class T>
void rms_norm_backward_cpu(const RmsNormProblem<E, T>& problem,
                           const T* inverse_rms,
                           const E* dy,
                           E* dx,
                           T* dweight_parts,
                           int64_t parts);

}  // namespace braid
