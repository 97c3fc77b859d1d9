#include "inference/evaluate.h"

#include <algorithm>
#include <numbers>

#include "core/ignored_target.h"
#include "inference/token_losses.h"

namespace braid {
namespace {

std::vector<PositionBucket> position_buckets(int64_t seq_len) {
  std::vector<PositionBucket> buckets;
  for (int64_t begin = 0, end = 16; begin < seq_len; begin = end, end *= 4) {
    buckets.push_back({begin, std::min(end, seq_len)});
  }
  return buckets;
}

// Adds the batch's weighted sums of nats to the buckets' losses; returns the sum of all nats.
double add_batch(const Batch& batch,
                 const std::vector<double>& nats,
                 std::vector<PositionBucket>& buckets) {
  const int64_t* positions = batch.positions_BS.const_data_ptr<int64_t>();
  const int64_t* targets = batch.targets_BS.const_data_ptr<int64_t>();
  const float* weights =
      batch.weights_BS.defined() ? batch.weights_BS.const_data_ptr<float>() : nullptr;
  double sum = 0;
  for (std::size_t i = 0; i < nats.size(); ++i) {
    if (targets[i] != kIgnoredTarget) {
      auto bucket = buckets.begin();
      while (positions[i] >= bucket->end) {
        ++bucket;
      }
      const double weight = weights == nullptr ? 1 : static_cast<double>(weights[i]);
      bucket->loss += weight * nats[i];
      bucket->weight += weight;
      ++bucket->tokens;
      sum += nats[i];
    }
  }
  return sum;
}

}  // namespace

Evaluation evaluate(const Transformer& model,
                    const DocumentStore& store,
                    int64_t seq_len,
                    int64_t rows,
                    const ProcessGrid* grid) {
  Evaluation result;
  result.positions = position_buckets(seq_len);
  double nats_of_targets = 0;
  visit_token_losses(
      model, store, seq_len, rows, grid, [&](const Batch& batch, const std::vector<double>& nats) {
        nats_of_targets += add_batch(batch, nats, result.positions);
        result.tokens += batch.num_targets;
      });
  double weighted_nats = 0, weight = 0;
  for (auto& bucket : result.positions) {
    weighted_nats += bucket.loss;
    weight += bucket.weight;
    bucket.loss /= bucket.weight;
  }
  result.loss = weighted_nats / weight;
  result.bits_per_byte =
      nats_of_targets / std::numbers::ln2 / static_cast<double>(store.text_bytes());
  return result;
}

}  // namespace braid
