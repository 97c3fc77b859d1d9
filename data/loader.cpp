#include "data/loader.h"

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/random.h"
#include "data/next_source.h"

namespace braid {

Loader::Loader(const std::vector<LoaderSource>& sources, StreamOptions options) {
  require(!sources.empty(), "[loader] there must be at least one source");
  const uint64_t seed = options.seed;
  int64_t documents = 0;
  for (const LoaderSource& source : sources) {
    require(std::isfinite(source.weight) && source.weight > 0,
            "[loader] the weight of a source must be more than 0, got ",
            source.weight);
    if (!streams_.empty()) {  // sources of equally many documents must not share an order
      options.seed = random_key(seed, text("source ", streams_.size()));
    }
    streams_.emplace_back(source.store, options);
    first_documents_.push_back(documents);
    documents += source.store.num_documents();
    weights_.push_back(source.weight);
  }
  const double sum = std::accumulate(weights_.begin(), weights_.end(), 0.0);
  for (const double weight : weights_) {
    shares_.push_back(weight / sum);
  }
  turns_.assign(streams_.size(), 0);
}

Batch Loader::next(BatchShape shape) {
  shape.validate();
  Batch batch = empty_batch(streams_.front().store(), shape);
  for (int64_t b = 0; b < shape.rows; ++b) {
    const std::size_t source = next_source(shares_, turns_);
    streams_[source].next(batch, b);
    for (Chunk& context : batch.contexts[static_cast<std::size_t>(b)]) {
      context.document += first_documents_[source];
    }
    ++turns_[source];
    ++samples_;
  }
  return batch;
}

LoaderProgress Loader::progress() const {
  LoaderProgress result;
  result.samples = samples_;
  for (const SampleStream& stream : streams_) {
    result.bytes += stream.state().bytes;
    result.epochs.push_back(stream.epochs());
  }
  return result;
}

LoaderState Loader::state() const {
  LoaderState result;
  result.samples = samples_;
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    result.sources.push_back({weights_[i], turns_[i], streams_[i].state()});
  }
  return result;
}

std::vector<std::size_t> Loader::restore(const LoaderState& state) {
  bool same_weights = state.sources.size() == streams_.size();
  std::vector<std::size_t> restarted;
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    SourceState source;
    source.stream.epoch = -1;  // one that the state does not have begins with epoch 0
    if (i < state.sources.size()) {
      source = state.sources[i];
    }
    if (!streams_[i].restore(source.stream)) {
      restarted.push_back(i);
    }
    turns_[i] = source.turns;
    same_weights = same_weights && source.weight == weights_[i];
  }
  if (!same_weights) {
    turns_.assign(streams_.size(), 0);
  }
  samples_ = state.samples;
  return restarted;
}

}  // namespace braid
