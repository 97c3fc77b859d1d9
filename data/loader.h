#pragma once
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/ignored_target.h"
#include "data/packing.h"
#include "data/token_store.h"

namespace braid {

/// Packed sequences. All tensors int64 [B, S].
struct Batch {
  at::Tensor ids_BS;        ///< padding holds the tokenizer's pad id
  at::Tensor targets_BS;    ///< id that follows each input; kIgnoredTarget where nothing is counted
  at::Tensor documents_BS;  ///< 0, 1, ... by context within the row; -1 = padding
  at::Tensor positions_BS;  ///< position within the context, from 0; 0 in padding
  int64_t num_targets = 0;  ///< counted targets in the whole batch
};

struct LoaderOptions {
  int64_t seq_len = 0;        ///< inputs per row, at least 2
  uint64_t seed = 0;          ///< of the order
  int64_t pack_window = 256;  ///< consecutive documents that may share rows
  bool shuffle = true;        ///< a new order of documents and rows each epoch
};

/// An endless stream of packed rows ("samples") over the documents of a store.
///
/// A document is the begin token, its tokens and the end token, which is only ever a target. One
/// that has more than seq_len inputs is cut into contexts of its own whose last target is the next
/// one's first token: in every epoch each token after the begin token is a target exactly once.
/// Documents are taken in windows of `pack_window`, never across epochs, so that the stream is a
/// pure function of the store and the options, and a position in it is one number.
class Loader {
 public:
  /// `store` must outlive the loader.
  Loader(const TokenStore& store, LoaderOptions options);

  /// The next `rows` samples.
  Batch next(int64_t rows);

  /// Samples consumed since the start of the first epoch.
  int64_t position() const { return window_start_ + row_; }
  /// Continues as if exactly `position` samples had been consumed. Plans the windows in between (no
  /// token is read): about a microsecond a document.
  void seek(int64_t position);
  /// Passes over the documents, with the fraction of the present one.
  double epochs() const;

 private:
  void plan_window();
  void next_window();

  const TokenStore& store_;
  LoaderOptions options_;
  int64_t epoch_ = 0;
  int64_t first_document_ = 0;   // of the window, in the epoch's order
  int64_t window_start_ = 0;     // position of the window's first row
  int64_t row_ = 0;              // next row of the window
  std::vector<PackedRow> rows_;  // of the window
};

/// The whole store in its own order in batches of `rows` (the last one may be smaller). Every text
/// token is a target exactly once; end tokens are not counted. Cut and packed as Loader does.
std::vector<Batch> evaluation_batches(const TokenStore& store, int64_t seq_len, int64_t rows);

}  // namespace braid
