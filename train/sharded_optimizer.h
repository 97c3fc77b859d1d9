#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "optim/optimizer.h"
#include "optim/sharding.h"
#include "parallel/gradient_sync.h"
#include "parallel/grid.h"

namespace braid {

/// The optimizer of a model that several ranks train (ZeRO-1): gradients are summed over ranks,
/// each rank holds the optimizer state of its share of the weights and updates those, and then
/// every rank receives all weights.
///
/// A step: begin_step(), begin_micro_batch() before each backward pass, reduce(), squared_norms(),
/// step(). Every rank calls all of them.
class ShardedOptimizer {
 public:
  ShardedOptimizer(const OptimizerConfig& config,
                   const ParallelSection& parallel,
                   std::vector<GroupedParameter> parameters,
                   ProcessGrid& grid);

  void begin_step(TrainedParts parts);
  void begin_micro_batch(bool is_last);
  void reduce();

  struct ParameterNorm {
    std::string_view name;
    double square = 0;
    /// false where no loss of any rank reaches the parameter in this step, or its gradient is
    /// rounding noise (optim/rounding_noise.h)
    bool has_gradient = true;
  };
  /// The squared norm of the whole gradient of every parameter that learns in this step, the same
  /// on every rank: sums over units (optim/ownership.h) in a fixed order, in double.
  std::vector<ParameterNorm> squared_norms();

  /// The first tensor that this step() has made NaN or infinite on any rank, the same on every rank
  /// (Optimizer::first_not_finite()); empty where all are finite.
  std::string first_not_finite() const;

  /// Gradients count times `gradient_scale`. Parameters without a gradient take no step.
  void step(double learning_rate, double gradient_scale);

  const Optimizer& local() const { return optimizer_; }
  Optimizer& local() { return optimizer_; }
  const std::vector<GroupedParameter>& parameters() const { return optimizer_.parameters(); }
  const Sharding& sharding() const { return sharding_; }
  /// Bytes of gradients and weights that this rank has sent to others.
  int64_t bytes_sent() const { return dense_sync_->bytes_sent() + experts_sync_->bytes_sent(); }

 private:
  void find_gradients(const std::vector<std::vector<double>>& of_ranks,
                      std::vector<ParameterNorm>& norms);
  int64_t elements_of(std::size_t parameter) const;

  ProcessGrid& grid_;
  Sharding sharding_;
  std::vector<ElementRange> owned_;
  Optimizer optimizer_;
  std::vector<std::size_t> dense_, experts_;  // indices of the parameters
  std::unique_ptr<GradientSync> dense_sync_, experts_sync_;
  TrainedParts parts_ = TrainedParts::all();
  std::vector<bool> has_gradient_;  // by parameter, after squared_norms()
};

}  // namespace braid
