#pragma once
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace braid {

/// How the next token is chosen; the steps are taken in this order.
struct Sampling {
  double temperature = 1;  ///< logits are divided by it; 0 = always the most probable token
  int64_t top_k = 0;       ///< only the k most probable tokens; 0 = all
  double top_p = 1;        ///< only the fewest most probable tokens that reach this probability
};

/// Throws Error unless temperature is 0 or in [1e-6, 100], top_k >= 0 and top_p in [0, 1].
void require_valid(const Sampling& sampling);

/// The distribution the next token is drawn from, float64 [V], out of logits [V]. At least one
/// token stays; of equally probable ones the lower ids. Throws Error for logits that are not
/// finite.
at::Tensor sampling_probabilities(const at::Tensor& logits_V, const Sampling& sampling);

/// The first id whose cumulated probability exceeds u in [0, 1).
int64_t drawn_id(const at::Tensor& probabilities_V, double u);

}  // namespace braid
