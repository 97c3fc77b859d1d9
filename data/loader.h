#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "data/batch.h"
#include "data/loader_state.h"
#include "data/sample_stream.h"

namespace braid {

struct LoaderSource {
  const DocumentStore& store;
  double weight = 1;  ///< share of the samples, relative to the other sources' weights
};

/// How much data the samples so far were.
struct LoaderProgress {
  int64_t samples = 0;
  int64_t bytes = 0;           ///< of text
  std::vector<double> epochs;  ///< passes through each source
};

/// Packed samples of several sources, each an endless stream of its own, mixed by their weights:
/// the next sample's source is a pure function of how many samples there were (next_source.h).
class Loader {
 public:
  /// The stores, at least one and all of one tokenizer, must outlive the loader.
  Loader(const std::vector<LoaderSource>& sources, StreamOptions options);

  /// The next samples, in rows of any length.
  Batch next(BatchShape shape);

  LoaderProgress progress() const;
  LoaderState state() const;
  /// Continues where `state` was taken. Returns the sources that do not: those whose order changed
  /// (SampleStream::restore) start their next epoch, those that the state does not have their first
  /// one. Changed weights apply from here on.
  std::vector<std::size_t> restore(const LoaderState& state);

 private:
  std::vector<SampleStream> streams_;
  std::vector<int64_t> first_documents_;
  std::vector<double> weights_, shares_;
  std::vector<int64_t> turns_;
  int64_t samples_ = 0;
};

}  // namespace braid
