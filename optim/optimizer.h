#pragma once
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/named_tensor.h"
#include "optim/config.h"
#include "optim/param_groups.h"

namespace braid {

/// Muon and AdamW over the parameters of one model. Weights, gradients and state are float32, or
/// float64 for float64 parameters. Parameters must be contiguous and must not change their storage.
class Optimizer {
 public:
  /// Large enough to fill the machine, small enough that Newton-Schulz's work tensors stay modest.
  static constexpr int64_t kBatchBytes = int64_t{64} << 20;

  Optimizer(const OptimizerConfig& config,
            std::vector<GroupedParameter> parameters,
            int64_t batch_bytes = kBatchBytes);

  /// Updates every weight in place from its grad(), at this learning rate times the group's scale.
  /// An undefined gradient counts as zeros: momentum and weights decay as for any other. Parameters
  /// of optimizer `none` are never touched. Equal matrices of all layers go through Newton-Schulz
  /// in batches, in the order of the parameters.
  void step(double learning_rate);

  /// Optimizer state by name: "<parameter>/momentum" for Muon, "<parameter>/exp_avg" and
  /// "<parameter>/exp_avg_sq" for AdamW, in the parameter's shape. Copying into them restores a
  /// state, together with set_steps().
  std::vector<NamedTensor> state() const;

  /// Steps taken so far: AdamW's bias correction.
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

  const std::vector<GroupedParameter>& parameters() const { return parameters_; }

 private:
  /// Where a Muon parameter's matrices stand in the stack of all matrices of its shape.
  struct Member {
    std::size_t parameter;
    int64_t begin, end;
  };
  struct MuonShape {
    std::vector<Member> members;
    at::Tensor momentum_Brc;
  };
  struct AdamWMember {
    std::size_t parameter;
    at::Tensor exp_avg, exp_avg_sq;
  };

  void add_muon(std::size_t parameter);
  void step_muon(const MuonShape& shape, double learning_rate);
  void step_adamw(const AdamWMember& member, double learning_rate);

  OptimizerConfig config_;
  std::vector<GroupedParameter> parameters_;
  std::vector<MuonShape> muon_;
  std::vector<AdamWMember> adamw_;
  int64_t batch_bytes_;
  int64_t steps_ = 0;
};

}  // namespace braid
