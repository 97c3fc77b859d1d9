#include "inference/evaluate.h"

#include <algorithm>
#include <numbers>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/ignored_target.h"
#include "core/interruption.h"
#include "core/work.h"
#include "data/loader.h"
#include "run/tokens_of.h"

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

// One batch's nats [B, S] out of those of its sequences' shares, which follow one another in `all`
// from `first` on.
std::vector<double> joined(const std::vector<std::vector<double>>& all,
                           std::size_t first,
                           std::size_t shares,
                           std::size_t rows) {
  std::vector<double> nats;
  for (std::size_t b = 0; b < rows; ++b) {
    for (std::size_t c = first; c < first + shares; ++c) {
      const auto length = static_cast<std::ptrdiff_t>(all[c].size() / rows);
      const auto row = all[c].begin() + static_cast<std::ptrdiff_t>(b) * length;
      nats.insert(nats.end(), row, row + length);
    }
  }
  return nats;
}

}  // namespace

Evaluation evaluate(const Transformer& model,
                    const TokenStore& store,
                    int64_t seq_len,
                    int64_t rows,
                    const std::function<void(int64_t, int64_t)>& progress,
                    const ProcessGrid* grid) {
  const at::NoGradGuard no_grad;
  const Work work("tokens evaluated", store.num_targets());
  Evaluation result;
  result.positions = position_buckets(seq_len);
  const auto own = alone();
  auto& world = grid == nullptr ? *own : *grid->world;
  const auto place = grid == nullptr ? GridPlace{} : grid->place;
  const auto batches = evaluation_batches(store, seq_len, rows, place.context_size);
  const auto size = static_cast<std::size_t>(place.data_size),
             shares = static_cast<std::size_t>(place.context_size);
  double nats_of_targets = 0;
  for (std::size_t first = 0; first < batches.size(); first += size) {
    // Ranks that share a model must run the same number of passes: one that has no batch left
    // repeats the last.
    const auto& batch =
        batches[std::min(first + static_cast<std::size_t>(place.data), batches.size() - 1)];
    const auto hidden = model.forward(tokens_of(batch));
    const auto nats_BS =
        model.cross_entropy_each(hidden.final_BSD, model.own_share(batch.targets_BS))
            .to(at::kDouble)
            .contiguous();
    const double* nats = nats_BS.const_data_ptr<double>();
    const auto all = world.all_gather(std::vector(nats, nats + nats_BS.numel()), "validation");
    for (std::size_t d = 0; d < size && first + d < batches.size(); ++d) {
      const auto& its_batch = batches[first + d];
      const auto its_rows = static_cast<std::size_t>(its_batch.ids_BS.size(0));
      nats_of_targets +=
          add_batch(its_batch, joined(all, d * shares, shares, its_rows), result.positions);
      result.tokens += its_batch.num_targets;
      Work::did(its_batch.num_targets);
    }
    progress(result.tokens, store.num_targets());
    if (first + size < batches.size() && world.agree_on_interruption("whether to stop")) {
      stop_if_interrupted();
    }
  }
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
