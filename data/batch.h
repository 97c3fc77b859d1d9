#pragma once
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/ignored_target.h"
#include "data/document_store.h"
#include "data/packing.h"

namespace braid {

struct BatchShape {
  int64_t rows = 0;     ///< packed sequences, at least 1
  int64_t seq_len = 0;  ///< inputs per row, at least 2
  bool operator==(const BatchShape&) const = default;

  /// Throws Error for too few rows or inputs.
  void validate() const;
};

/// Packed sequences. All tensors int64 [B, S].
struct Batch {
  at::Tensor ids_BS;        ///< padding holds the tokenizer's pad id
  at::Tensor targets_BS;    ///< id that follows each input; kIgnoredTarget where nothing is counted
  at::Tensor documents_BS;  ///< 0, 1, ... by context within the row; -1 = padding
  at::Tensor positions_BS;  ///< position within the context, from 0; 0 in padding
  /// float32 [B, S], what each target's loss is multiplied by, 0 where nothing is counted;
  /// undefined while every target has weight 1.
  at::Tensor weights_BS = {};
  int64_t num_targets = 0;  ///< counted targets in the whole batch
  /// The contexts of each row; the loader counts documents over all its stores in order.
  std::vector<PackedRow> contexts = {};
};

/// All padding.
Batch empty_batch(const DocumentStore& store, BatchShape shape);

/// Fills row `b` of an empty batch and adds its targets to batch.num_targets: those that the store
/// says are targets. A document's end token is never an input, and a target only if
/// `count_end_targets`. Returns the bytes of text that the row's targets stand for.
int64_t write_row(const DocumentStore& store,
                  const PackedRow& row,
                  bool count_end_targets,
                  int64_t b,
                  Batch& batch);

/// The whole store in its own order in batches of `rows` (the last one may be smaller). Every
/// target of the store is one exactly once; end tokens are not counted. Cut and packed as Loader
/// does into rows of seq_len inputs, which are shorter only where no row is filled that far: then
/// as long as the fullest one, and still a multiple of `shares`, which must divide seq_len.
std::vector<Batch> evaluation_batches(const DocumentStore& store,
                                      int64_t seq_len,
                                      int64_t rows,
                                      int64_t shares = 1);

}  // namespace braid
