#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/config.h"

namespace braid {

/// Samples of a window that were taken with one sequence length.
struct TakenRows {
  int64_t seq_len = 0, rows = 0;
  bool operator==(const TakenRows&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("seq_len", &TakenRows::seq_len, "inputs per row", at_least(2));
    v("rows", &TakenRows::rows, "how many", at_least(1));
  }
};

/// Position of the stream of one source.
struct StreamState {
  std::string order;             ///< digest of what decides the order: text, seed, window
  int64_t bytes = 0;             ///< of text in the samples so far
  int64_t epoch = 0;             ///< passes before the current one
  int64_t document = 0;          ///< first of the current window, in the epoch's order
  std::vector<TakenRows> taken;  ///< of the current window, in the order they were taken
  bool operator==(const StreamState&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    using S = StreamState;
    v("order", &S::order, "digest of what decides the order of the samples");
    v("bytes", &S::bytes, "of text so far", at_least(0));
    v("epoch", &S::epoch, "passes before the current one", at_least(0));
    v("document", &S::document, "first of the window in the epoch's order", at_least(0));
    v("taken", &S::taken, "rows of the window that were taken");
  }
};

struct SourceState {
  double weight = 1;
  int64_t turns = 0;  ///< samples since the weights were set
  StreamState stream;
  bool operator==(const SourceState&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("weight", &SourceState::weight, "share of the samples", more_than(0));
    v("turns", &SourceState::turns, "samples since the weights were set", at_least(0));
    v("stream", &SourceState::stream, "position in the source");
  }
};

/// All that a loader needs to continue with the same bits. Its text form is YAML: dump_config() and
/// parse_config().
struct LoaderState {
  int64_t samples = 0;
  std::vector<SourceState> sources;
  bool operator==(const LoaderState&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("samples", &LoaderState::samples, "samples so far", at_least(0));
    v("sources", &LoaderState::sources, "in the order of data.train");
  }
};

}  // namespace braid
