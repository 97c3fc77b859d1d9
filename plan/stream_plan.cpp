#include "plan/stream_plan.h"

#include <algorithm>
#include <utility>

#include "model/expert_ring.h"

namespace braid {
namespace {

// Which of the layers computes when, in a micro-batch: forward, and backward with what is computed
// again (model/recompute.h).
std::vector<int64_t> order_of_micro_batch(const std::vector<StreamedLayer>& streamed,
                                          const ModelConfig& config,
                                          const Regime& regime) {
  const auto count = static_cast<int64_t>(streamed.size());
  std::vector<int64_t> order;
  for (int64_t i = 0; i < count; ++i) {
    order.push_back(i);
  }
  const int64_t sublayers = regime.options.recompute_sublayers;
  const auto segment_of = [&](int64_t i) {
    const int64_t layer = streamed[static_cast<std::size_t>(i)].layer;
    const bool is_mtp = layer == config.num_hidden_layers;
    return is_mtp || sublayers == 0 ? 2 * layer + 1 : (2 * layer + 1) / sublayers;
  };
  for (int64_t end = count; end > 0;) {
    int64_t first = end - 1;
    while (sublayers > 0 && first > 0 && segment_of(first - 1) == segment_of(end - 1)) {
      --first;
    }
    const bool is_mtp = streamed[static_cast<std::size_t>(first)].layer == config.num_hidden_layers;
    const bool has_gradient = !is_mtp || regime.weights.mtp > 0;
    for (int64_t i = first; i < end && sublayers > 0 && has_gradient; ++i) {
      order.push_back(i);
    }
    for (int64_t i = end; i-- > first && has_gradient;) {
      order.push_back(i);
    }
    end = first;
  }
  return order;
}

}  // namespace

void add_streamed(const std::vector<StreamedLayer>& streamed,
                  const ModelConfig& config,
                  const Regime& regime,
                  int64_t micro_batches,
                  StreamPlan& plan) {
  if (streamed.empty()) {
    return;
  }
  for (const auto& layer : streamed) {
    ++(layer.place == WeightPlace::kMapped ? plan.mapped_layers : plan.pinned_layers);
  }
  const auto order = order_of_micro_batch(streamed, config, regime);
  ExpertRing ring(static_cast<int64_t>(streamed.size()));
  const auto copied = [&](const std::optional<ExpertRing::Copy>& copy, double times) {
    if (copy) {
      const auto& layer = streamed[static_cast<std::size_t>(copy->layer)];
      (layer.place == WeightPlace::kMapped ? plan.mapped_sent_bytes : plan.pinned_sent_bytes) +=
          times * layer.bytes;
    }
  };
  // The first micro-batch of a run finds empty buffers, the others what the one before left.
  for (const double times : {0.0, static_cast<double>(micro_batches)}) {
    ring.begin_pass(/*returns=*/true);
    for (const int64_t layer : order) {
      const auto turn = ring.turn(layer);
      copied(turn.missing, times);
      copied(turn.ahead, times);
    }
  }
}

}  // namespace braid
