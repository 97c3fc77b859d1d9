#pragma once
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/communicator.h"

namespace braid {

/// The ranks that together hold each sequence: rank c has its tokens from c * length / size on.
struct ContextRanks {
  Communicator* group = nullptr;  ///< nullptr = this rank has all
  int64_t size() const { return group == nullptr ? 1 : group->size(); }
  int64_t rank() const { return group == nullptr ? 0 : group->rank(); }
  /// This rank's tokens of whole sequences [B, length, ...]; a view.
  at::Tensor own_share(const at::Tensor& whole) const;
};

// Collective, all three: every rank of the group calls them in the same order, in the backward pass
// too, which autograd runs in the opposite order of the forward pass on each. Gradients are summed
// in the order of ranks. With one rank they return their argument.

/// Own rows x_BSX, S of each sequence on every rank, behind the rows_before[rank] rows that precede
/// them in their sequences, which lie on the ranks to the left: [B, rows_before[rank] + S, X].
/// `rows_before` of all ranks; empty = no rank needs any. Each row travels once to each rank that
/// needs it, and its gradient once back.
at::Tensor with_rows_before(const ContextRanks& ranks,
                            const at::Tensor& x_BSX,
                            const std::vector<int64_t>& rows_before);

/// How many rows of one sequence with_rows_before() takes from each rank to those on its right, in
/// the forward pass, where a rank has `share` of them. Backward it sends rows_before[rank] back.
std::vector<int64_t> rows_sent_before(int64_t share, const std::vector<int64_t>& rows_before);

/// The rows of all ranks, rows[r] of rank r, in their order: [sum of rows, X] of own rows
/// [rows[rank], X].
at::Tensor rows_of_all(const ContextRanks& ranks,
                       const at::Tensor& own,
                       const std::vector<int64_t>& rows);

/// The sum of all ranks' tensors of one shape. No gradient.
at::Tensor sum_over(const ContextRanks& ranks, const at::Tensor& own);

}  // namespace braid
