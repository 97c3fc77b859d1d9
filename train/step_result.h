#pragma once
// What one optimizer step found.
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "run/regime.h"
#include "train/losses.h"
#include "train/sharded_optimizer.h"

namespace braid {

/// Norms of a step's gradients, over all micro-batches and ranks.
struct GradientNorms {
  double total = 0;
  std::map<std::string_view, double> parts;  ///< by core/parameter_names.h
  /// The parts that are not finite, each with its first such parameter.
  std::map<std::string_view, std::string> not_finite;
  std::vector<std::string_view> absent;  ///< parameters that learn but have no gradient
};

/// What a step took.
struct StepCost {
  std::array<int64_t, 2> shape{};             ///< sequences of a micro-batch, and their length
  int64_t activation_bytes = 0;               ///< peak of the forward and backward pass, and ...
  int64_t update_bytes = 0;                   ///< ... of the update, beyond what was there before
  int64_t highest_bytes = 0;                  ///< of all tensors on the model's device, at most
  std::map<std::string, int64_t> sent_bytes;  ///< by this rank, by what; empty for a single rank
};

struct StepResult {
  Regime regime;
  Losses losses;  ///< over all micro-batches and ranks
  GradientNorms gradients;
  /// Which losses and gradients are not finite, for messages. Unless empty, the step was skipped.
  std::string not_finite;
  StepCost cost;
  /// Steps since the experts were chosen, while routing is anticipatory.
  std::optional<int64_t> routing_delay = {};
  /// What monitors gave, by key of metrics.jsonl.
  std::vector<std::pair<std::string, double>> monitored = {};
};

GradientNorms gradient_norms(ShardedOptimizer& optimizer);

/// "loss, gradients of attention (layers.0.attn.wq_a.weight)"; empty when everything is finite.
std::string list_not_finite(const Losses& losses, const GradientNorms& gradients);

}  // namespace braid
