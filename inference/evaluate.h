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
};

struct Evaluation {
  double loss = 0;           ///< mean cross-entropy in nats per token; end tokens not counted
  double bits_per_byte = 0;  ///< sum of nats / ln 2 / bytes of text
  int64_t tokens = 0;
  std::vector<PositionBucket> positions;  ///< [0, 16), [16, 64), [64, 256), ... up to seq_len
};

/// The model on every document of a store, whole up to seq_len tokens of context, `rows` sequences
/// at once. A position's prediction sees itself and the positions before it in its context.
/// `progress` sees tokens done and tokens in all after each batch. The ranks of a `grid`, which all
/// call this, divide batches and sequences as in training, and all get the result, the same bits on
/// any number of data-parallel ranks.
Evaluation evaluate(
    const Transformer& model,
    const TokenStore& store,
    int64_t seq_len,
    int64_t rows,
    const std::function<void(int64_t, int64_t)>& progress = [](int64_t, int64_t) {},
    const ProcessGrid* grid = nullptr);

}  // namespace braid
