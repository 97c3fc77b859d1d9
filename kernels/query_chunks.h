#pragma once
// Twins whose inner tensors would be of size queries x keys, for some queries at a time.
#include <cstdint>
#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

/// Of all scores of the queries that a twin computes at once, unless one query has more; of inner
/// tensors as large there are at most 4 at a time, forward and backward.
inline constexpr int64_t kTwinScoreBytes = int64_t{256} << 20;

/// How many of S queries at once have scores of at most kTwinScoreBytes, where each has `scores` of
/// them, of a wide type. At least one.
int64_t queries_at_once(int64_t S, int64_t scores, at::ScalarType wide);

/// An operation on queries, which are dimension 1 of its first `of_queries` inputs; the others are
/// shared by all queries.
struct QueryOp {
  /// The results of queries [first, first + count), from inputs of those alone. The first result
  /// alone has gradients.
  std::function<std::vector<at::Tensor>(
      const std::vector<at::Tensor>& inputs, int64_t first, int64_t count)>
      run;
  std::size_t of_queries = 1;
  bool sums = false;  ///< results are sums over queries; else queries are their dimension 1
};

/// The results of S queries, `at_once` at a time, with gradients: the backward pass computes a
/// chunk again and goes through it before the next. Sums over queries, the gradients of shared
/// inputs too, are added up in the order of chunks; all else has the bits of each chunk's. Where
/// all fit at once, the operation itself.
std::vector<at::Tensor> in_query_chunks(const std::vector<at::Tensor>& inputs,
                                        int64_t S,
                                        int64_t at_once,
                                        const QueryOp& op);

}  // namespace braid
