#pragma once
// What optimizers do to weights in one pass over memory, and the sum that clipping needs. Letters:
// B independent matrices of r x c. Tensors are contiguous, float32 or float64, all of one type and
// on one device, and are updated in place.
#include <vector>

#include <ATen/core/Tensor.h>

#include "kernels/newton_schulz.h"

namespace braid {

/// Sum of the squares of a tensor in double: fixed pieces, added in their order, so that the bits
/// do not depend on threads. NaN or infinite exactly when an element is (a float32 element cannot
/// overflow the sum).
double squared_norm(const at::Tensor& x);
/// The same in plain LibTorch: on its device, float64 [], and read from there.
at::Tensor sum_of_squares(const at::Tensor& x);
double squared_norm_reference(const at::Tensor& x);
/// squared_norm() of each of several tensors, of one device, for which the host waits once. Dozens
/// of them are summed in a launch.
std::vector<double> squared_norms(const std::vector<at::Tensor>& tensors);

struct AdamWStep {
  int64_t step = 1;  ///< counts from 1
  double learning_rate = 0;
  double weight_decay = 0;
  double gradient_scale = 1;  ///< the factor of clipping
};
struct AdamWMoments {
  double beta1, beta2, epsilon;
};

/// What AdamW updates together; all tensors of one shape.
struct AdamWTensors {
  at::Tensor value, grad, exp_avg, exp_avg_sq;
  AdamWStep step;
};

/// One AdamW step (Loshchilov & Hutter, arXiv:1711.05101) of each. With g = gradient_scale * grad:
///   m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
///   w <- w (1 - learning_rate * weight_decay)
///        - learning_rate * m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon)
/// An element whose gradient was always zero only decays. A device takes dozens of tensors in a
/// launch.
void update_by_adamw(const std::vector<AdamWTensors>& each, const AdamWMoments& moments);
/// The same in plain LibTorch.
void update_by_adamw_reference(const std::vector<AdamWTensors>& each, const AdamWMoments& moments);

/// Matrices of one shape that learn alike.
struct MuonStack {
  at::Tensor value_Brc, gradient_Brc, momentum_Brc;
  double learning_rate = 0, weight_decay = 0;
};
struct MuonUpdate {
  double momentum, update_rms;
  double gradient_scale = 1;  ///< the factor of clipping
  NewtonSchulzOptions newton_schulz;
};

/// One Muon step (DeepSeek-V4 report, Algorithm 1), with G = gradient_scale * gradient:
///   M <- mu M + G (a sum, not a mean),  O = newton_schulz(mu M + G)
///   W <- W (1 - learning_rate * weight_decay)
///        - learning_rate * update_rms * sqrt(max(r, c)) * O
/// For full rank the RMS of an update is learning_rate * update_rms. All stacks' matrices have one
/// shape; they are shared among threads as newton_schulz() shares them.
void update_by_muon(const std::vector<MuonStack>& stacks, const MuonUpdate& update);
/// The same of one stack, in plain LibTorch.
void update_by_muon_reference(const MuonStack& stack, const MuonUpdate& update);

}  // namespace braid
