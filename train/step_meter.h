#pragma once
#include "parallel/grid.h"
#include "train/sharded_optimizer.h"
#include "train/step_result.h"

namespace braid {

/// Measures what one step takes, for the report: peaks of memory, and bytes sent to other ranks
/// from its construction on. Has no influence on the step.
class StepMeter {
 public:
  /// Memory is that of `device`, where the model is.
  StepMeter(const ProcessGrid& grid, const ShardedOptimizer& optimizer, at::Device device);

  /// From here to the next call is the forward and backward pass ...
  void forward_backward_begins() { next(&cost_.activation_bytes); }
  /// ... and from here on the update.
  void update_begins() { next(&cost_.update_bytes); }
  /// Ends the measurement.
  StepCost finish(std::array<int64_t, 2> shape);

 private:
  using SentBytes = std::map<std::string, int64_t>;
  SentBytes sent_bytes() const;
  void next(int64_t* peak);

  const ProcessGrid& grid_;
  const ShardedOptimizer& optimizer_;
  at::Device device_;
  SentBytes sent_before_;
  StepCost cost_;
  int64_t* peak_ = nullptr;  // of the phase being measured
  int64_t before_ = 0;       // bytes of tensors when it began
};

}  // namespace braid
