#pragma once
// Products of rows that are sorted by expert with the experts' matrices, autograd apart.
//
// Local letters: R rows; I inputs and O outputs of a matrix.
#include <vector>

#include <ATen/core/Tensor.h>

#include "kernels/expert_rows.h"
#include "kernels/weight.h"

namespace braid {

/// Of each w: a_RI[rows of e] w[e]^T for every expert e -> [R, O].
///
/// On the CPU in one parallel region. A device with kernels for them (kernels/cuda) makes products
/// of bfloat16 rows with a stack, or with FP4 codes, in one launch a stack, and the host does not
/// learn how many rows an expert has. It asks for that, and waits, for all others, which are a
/// product for each expert.
std::vector<at::Tensor> expert_products(const at::Tensor& a_RI,
                                        const std::vector<const ExpertWeights*>& weights,
                                        const ExpertBounds& bounds);

/// Of each: out[rows of e] += a[rows of e] w[e]^T.
struct AddedExpertProduct {
  at::Tensor a_RI;
  ExpertWeights w_EOI;
  at::Tensor out_RO;
};
void add_expert_products(const std::vector<AddedExpertProduct>& each, const ExpertBounds& bounds);

/// out[rows of e] (+)= a[rows of e] w[e].
void expert_products_back(const at::Tensor& a_RO,
                          const ExpertWeights& w_EOI,
                          const ExpertBounds& bounds,
                          const at::Tensor& out_RI,
                          bool accumulate = false);

/// Of each a: a[rows of e]^T b[rows of e], the gradients of the experts' matrices, wide [E, O, I];
/// zero for experts without rows.
std::vector<at::Tensor> expert_gradients(const std::vector<at::Tensor>& left_RO,
                                         const at::Tensor& b_RI,
                                         const ExpertBounds& bounds);

}  // namespace braid
