#pragma once
// The rows that the routed experts compute with, one for each (token, choice) pair, sorted by
// expert: their order, and how tokens go there and come back. Autograd apart: each function's
// gradient is another one of these (kernels/experts_passes.cpp).
//
// Local letter: R rows, T K of them.
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

namespace braid {

/// Where each expert's rows are: those of expert e are [bounds[e], bounds[e + 1]). A device keeps
/// them to itself until the host asks. Copies share what the host knows.
class ExpertBounds {
 public:
  ExpertBounds() = default;
  /// bounds_E1 int64 [E + 1], on the CPU or a device; rows: of all experts.
  ExpertBounds(at::Tensor bounds_E1, int64_t rows);

  int64_t experts() const { return bounds_E1_.size(0) - 1; }
  const at::Tensor& tensor() const { return bounds_E1_; }
  /// E + 1 numbers. The first call waits for the device. Throws Error where they are not those of
  /// all rows, since an expert of a token is none of the E.
  const std::vector<int64_t>& on_host() const;

 private:
  at::Tensor bounds_E1_;
  int64_t rows_ = 0;
  std::shared_ptr<std::vector<int64_t>> on_host_;  // empty until they are known
};

/// The (token, choice) pairs sorted by expert, pairs of one expert in the order of t K + k.
struct ExpertOrder {
  at::Tensor row_TK;  ///< int64, flattened: the row of pair t K + k
  ExpertBounds bounds;
};

/// On the CPU, throws Error where an expert is none of the E.
ExpertOrder sorted_by_expert(const at::Tensor& experts_TK, int64_t E);
/// The same in plain LibTorch. Of a device it waits once, for the bounds.
ExpertOrder sorted_by_expert_reference(const at::Tensor& experts_TK, int64_t E);

/// A row for each pair, and a number that goes with it.
struct ExpertRows {
  at::Tensor rows_RD, weight_R;
};
/// The same by token and choice.
struct TokenRows {
  at::Tensor tokens_TD, weights_TK;
};

/// Row row[t, k] is x_t, its number weights[t, k] (wide).
ExpertRows permute_to_experts(const at::Tensor& x_TD,
                              const at::Tensor& weights_TK,
                              const at::Tensor& row_TK);
ExpertRows permute_to_experts_reference(const at::Tensor& x_TD,
                                        const at::Tensor& weights_TK,
                                        const at::Tensor& row_TK);
/// Its gradient: the sum of each token's K rows, wide and in the order of k, rounded to the rows'
/// type; and the numbers of its pairs.
TokenRows permute_to_experts_backward(const ExpertRows& gradient,
                                      const at::Tensor& row_TK,
                                      int64_t K);
TokenRows permute_to_experts_backward_reference(const ExpertRows& gradient,
                                                const at::Tensor& row_TK,
                                                int64_t K);

/// out_t = sum_k rows[row[t, k]], wide and in the order of k: deterministic, unlike adding rows
/// where they fall.
at::Tensor combine_of_experts(const at::Tensor& rows_RD, const at::Tensor& row_TK, int64_t K);
at::Tensor combine_of_experts_reference(const at::Tensor& rows_RD,
                                        const at::Tensor& row_TK,
                                        int64_t K);
/// Its gradient: row row[t, k] is dout_t, rounded to `type`.
at::Tensor combine_of_experts_backward(const at::Tensor& dout_TD,
                                       const at::Tensor& row_TK,
                                       int64_t K,
                                       at::ScalarType type);
at::Tensor combine_of_experts_backward_reference(const at::Tensor& dout_TD,
                                                 const at::Tensor& row_TK,
                                                 int64_t K,
                                                 at::ScalarType type);

}  // namespace braid
