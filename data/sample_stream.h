#pragma once
#include <cstdint>
#include <vector>

#include "data/batch.h"
#include "data/document_store.h"
#include "data/loader_state.h"
#include "data/packing.h"

namespace braid {

struct StreamOptions {
  uint64_t seed = 0;          ///< of the order
  int64_t pack_window = 256;  ///< consecutive documents (or pairs) that may share rows
  bool shuffle = true;        ///< a new order of documents and rows each epoch
};

/// An endless stream of packed rows ("samples") over the documents of one store.
///
/// A document is the begin token, its tokens and the end token, which is never an input. One that
/// has more inputs than a row is cut into contexts of its own, the last target of each being the
/// first token of the next: in every epoch each target of the store is one exactly once. Pairs
/// (DocumentStore::documents_per_sample) are not cut; each is in one row, one behind the other.
/// Documents are taken in windows of `pack_window`, never across epochs. When the row length
/// changes inside a window, the rest of its documents is cut and packed again. So the stream is a
/// pure function of the store, the options and the row lengths asked for.
class SampleStream {
 public:
  /// `store` must outlive the stream.
  SampleStream(const DocumentStore& store, StreamOptions options);

  /// Writes the next sample into row `b` of an empty batch.
  void next(Batch& batch, int64_t b);
  /// Goes past the next sample of this length without reading it; its bytes are not counted.
  void skip(int64_t seq_len) { take(seq_len); }

  const DocumentStore& store() const { return *store_; }
  const StreamState& state() const { return state_; }
  /// Continues where `state` was taken, and plans that window again: about a microsecond a
  /// document. A state of another order (the text, the seed or the window changed) starts the next
  /// epoch; then returns false. Throws Error for a state that no stream of this order can have.
  bool restore(const StreamState& state);
  /// Passes through the documents, with the fraction of the current one.
  double epochs() const;
  /// Of the inputs of an epoch's rows of this length, the share that is no padding. Plans the epoch
  /// from its beginning, as restore() plans a window.
  double filled_share(int64_t seq_len) const;

 private:
  const PackedRow& take(int64_t seq_len);
  int64_t window_end() const;
  void begin_window();
  void next_window();
  void plan(int64_t seq_len);
  void keep_remaining();
  int64_t remaining_inputs() const;

  const DocumentStore* store_;
  StreamOptions options_;
  StreamState state_;
  int64_t inputs_ = 0;            // of the window
  std::vector<Chunk> stretches_;  // what the current plan was made from
  std::vector<PackedRow> rows_;   // the current plan
  int64_t seq_len_ = 0;           // of the plan; 0 = there is none yet
  int64_t row_ = 0;               // next row of the plan
};

}  // namespace braid
