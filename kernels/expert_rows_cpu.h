#pragma once
// The CPU driver of expert_rows.h. E is the type of activations, T its wide type (precision.h).
#include <cstdint>

namespace braid {

/// An expert that is not one of E is an error on the CPU; elsewhere first[E] is less than `pairs`.
struct ExpertOrderProblem {
  int64_t pairs, E;
  const int64_t* experts;  // [pairs]
  int64_t* row;            // [pairs], written
  int64_t* first;          // [E + 1], written
  int32_t* counts;         // [expert_order_blocks(pairs) + 1, E], work memory
};

/// How many pairs a block of a device orders.
inline constexpr int64_t kExpertOrderPairs = 256;
inline int64_t expert_order_blocks(int64_t pairs) {
  return (pairs + kExpertOrderPairs - 1) / kExpertOrderPairs;
}

void order_by_expert_cpu(const ExpertOrderProblem& problem);

struct ExpertRowsProblem {
  int64_t tokens, K, D;
  const int64_t* row;  // [tokens, K]: each of the rows once
};

/// x [tokens, D], weights [tokens, K] -> rows, row_weights.
template <class E, class T>
void permute_to_experts_cpu(
    const ExpertRowsProblem& problem, const E* x, const T* weights, E* rows, T* row_weights);
template <class E, class T>
void permute_to_experts_backward_cpu(
    const ExpertRowsProblem& problem, const E* drows, const T* drow_weights, E* dx, T* dweights);

/// rows -> out [tokens, D].
template <class E, class T>
void combine_of_experts_cpu(const ExpertRowsProblem& problem, const E* rows, T* out);
template <class E, class T>
void combine_of_experts_backward_cpu(const ExpertRowsProblem& problem, const T* dout, E* drows);

}  // namespace braid
