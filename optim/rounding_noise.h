#pragma once
#include <cstdint>

#include <c10/core/ScalarType.h>

namespace braid {

/// A sum of squares over so many elements.
struct SquareSum {
  double sum = 0;
  int64_t elements = 0;
};

/// Whether a gradient cannot be told from rounding: it is not zero, but its RMS is below `type`'s
/// unit roundoff (2^-24 for float32, 2^-53 for float64) times the RMS of all gradients of the step
/// (docs/equations.md (75)). Muon and AdamW make steps of full size of any gradient, and so of
/// noise. Gradients that are zero by construction are left undefined where they arise; this is for
/// those that nobody thought of.
bool is_rounding_noise(const SquareSum& gradient, const SquareSum& all, at::ScalarType type);

}  // namespace braid
