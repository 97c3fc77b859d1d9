#pragma once
#include <functional>
#include <vector>

#include "data/token_store.h"
#include "model/transformer.h"
#include "parallel/grid.h"

namespace braid {

/// The tokens predicted from positions begin..end-1 of their contexts.
struct PositionBucket {
  int64_t begin = 0, end = 0;
  double loss = 0;  ///< mean cross-entropy in nats per token; NaN without tokens
  int64_t tokens = 0;
  double weight = 0;  ///< of these tokens in all: their number, unless targets have weights
};

struct Evaluation {
  /// Mean cross-entropy in nats per target, weighted where targets have weights; end tokens not
  /// counted.
  double loss = 0;
  double bits_per_byte = 0;  ///< sum of nats / ln 2 / bytes of text that the targets stand for
  int64_t tokens = 0;
  std::vector<PositionBucket> positions;  ///< [0, 16), [16, 64), [64, 256), ... up to seq_len
};

/// The model on every document of a store, whole up to seq_len tokens of context, `rows` sequences
/// at once. A prediction sees its position and those before it in its context. `progress` gets the
/// number of targets done and of all targets after each batch. With a `grid`, all its ranks call
/// this, divide batches and sequences as in training, and get the same result, bit for bit, on any
/// number of data-parallel ranks.
Evaluation evaluate(
    const Transformer& model,
    const TokenStore& store,
    int64_t seq_len,
    int64_t rows,
    const std::function<void(int64_t, int64_t)>& progress = [](int64_t, int64_t) {},
    const ProcessGrid* grid = nullptr);

}  // namespace braid
