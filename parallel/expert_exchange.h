#pragma once
// Local letter: R rows that arrive at one wave of experts.
#include <functional>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/communicator.h"

namespace braid {

/// The ranks that together hold one copy of a model's experts: rank e has those from
/// e * experts / size on.
struct ExpertRanks {
  Communicator* group = nullptr;  ///< nullptr = this rank has all
  int64_t waves = 1;
  int64_t size() const { return group == nullptr ? 1 : group->size(); }
  int64_t rank() const { return group == nullptr ? 0 : group->rank(); }
};

/// Local experts applied to rows: wave [0, waves), x_RD, expert_R int64 (counted from the wave's
/// first local expert), weight_R -> y_RD of x's type.
using WaveOfExperts = std::function<at::Tensor(
    int64_t wave, const at::Tensor& x_RD, const at::Tensor& expert_R, const at::Tensor& weight_R)>;

/// Sends every token to the ranks of its experts and its results back: out_TD = sum over k, in the
/// order of k, wide, of what expert experts_TK[t, k] makes of x_TD[t] with weights_TK[t, k]. With
/// `waves` groups of local experts the rows of the next group travel while one computes, and
/// results travel back likewise; in the backward pass the same, mirrored. Counts are exact: no
/// token is dropped. Rows sent: one of D elements for each (token, choice) whose expert another
/// rank has, there and back, once in the forward and once in the backward pass (docs/equations.md
/// (73)), with its routing weight.
///
/// The tensors are on one device; where it is not the CPU, the host waits for it once, for the
/// counts, beside what the exchanges themselves wait for.
///
/// An expert sees its tokens in the order of ranks, and of tokens within a rank. Collective: every
/// rank of the group calls it, with any number of tokens. `num_experts` of all ranks.
at::Tensor exchanged_experts(const ExpertRanks& ranks,
                             int64_t num_experts,
                             const at::Tensor& x_TD,
                             const at::Tensor& experts_TK,
                             const at::Tensor& weights_TK,
                             at::ScalarType wide,
                             const WaveOfExperts& experts);

/// The bounds of the waves that `count` local experts are cut into: at most `waves` + 1 numbers.
std::vector<int64_t> wave_bounds(int64_t count, int64_t waves);

}  // namespace braid
