#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/named_tensor.h"
#include "optim/config.h"
#include "optim/expert_damping.h"
#include "optim/ownership.h"
#include "optim/param_groups.h"

namespace braid {

/// Steps taken so far. AdamW's bias correction counts those in which a parameter learned.
struct OptimizerSteps {
  int64_t all = 0;
  std::array<int64_t, kTrainedParts.size()> by_part = {};

  int64_t& of(TrainedPart part) { return by_part[static_cast<std::size_t>(part)]; }
  int64_t of(TrainedPart part) const { return by_part[static_cast<std::size_t>(part)]; }
  bool operator==(const OptimizerSteps&) const = default;
};

/// Muon and AdamW over the parameters of one model. Weights, gradients and state are float32, or
/// float64 for float64 parameters. Parameters must be contiguous and must not change their storage.
class Optimizer {
 public:
  /// Updates all parameters, or where `owned` is given these ranges of them, made of whole units
  /// (ownership.h): then it keeps state for no others.
  Optimizer(const OptimizerConfig& config,
            std::vector<GroupedParameter> parameters,
            std::optional<std::vector<ElementRange>> owned = std::nullopt);

  /// Updates every weight of `parts` in place from its grad(), at this learning rate times the
  /// group's scale. A parameter whose gradient is undefined takes no step: neither it nor its
  /// state changes. (A gradient of zeros is one: momentum goes on, weights decay.) Parameters of
  /// optimizer `none` are never touched, nor is anything outside `parts`. Gradients count times
  /// `gradient_scale` (clip_factor()) and stay as they are.
  void step(double learning_rate,
            TrainedParts parts = TrainedParts::all(),
            double gradient_scale = 1);

  /// With muon.idle_expert_damping: counts a step's tokens per expert, before step(). See
  /// ExpertDamping::received().
  void received(const std::vector<at::Tensor>& load_E);

  /// Optimizer state by name, "<tensor>/<one of state_names()>", in the tensor's shape; experts
  /// apart, and of what is owned the rows. Copying into them restores a state, together with
  /// set_steps().
  std::vector<TensorPiece> state() const;
  /// With muon.idle_expert_damping, the state that every rank has: ExpertDamping::state().
  std::vector<NamedTensor> shared_state() const;

  /// The first tensor that step() with `parts` has made NaN or infinite, of what this object
  /// updates: a weight's name, or a state's as in state(). Empty where all are finite. One pass
  /// over memory, and one wait for a device.
  std::string first_not_finite(TrainedParts parts = TrainedParts::all()) const;

  const OptimizerSteps& steps() const { return steps_; }
  void set_steps(const OptimizerSteps& steps) { steps_ = steps; }

  const std::vector<GroupedParameter>& parameters() const { return parameters_; }

 private:
  /// Matrices of a Muon parameter, from its `first` on, are matrices [begin, end) in the stack of
  /// all matrices of their shape.
  struct Member {
    std::size_t parameter;
    int64_t first;
    int64_t begin, end;
  };
  struct MuonShape {
    TrainedPart part = TrainedPart::kTrunk;
    std::vector<Member> members;
    at::Tensor momentum_Brc;
  };
  /// Weights that are updated one by one.
  struct ElementsMember {
    ElementRange range;
    std::vector<at::Tensor> states;  // flat, of state_names()
  };

  void add_muon(const ElementRange& range);
  void step_muon(const MuonShape& shape, double learning_rate, double gradient_scale);
  void step_elements(double learning_rate, TrainedParts parts, double gradient_scale);

  OptimizerConfig config_;
  std::vector<GroupedParameter> parameters_;
  std::vector<MuonShape> muon_;
  std::vector<ElementsMember> elements_;
  std::optional<ExpertDamping> damping_;
  OptimizerSteps steps_;
};

}  // namespace braid
