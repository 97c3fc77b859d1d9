#pragma once
#include "data/token_store.h"
#include "model/transformer.h"

namespace braid {

struct Evaluation {
  double loss = 0;           ///< mean cross-entropy in nats per token; end tokens not counted
  double bits_per_byte = 0;  ///< sum of nats / ln 2 / bytes of text
  int64_t tokens = 0;
};

/// The model on every document of a store, whole up to seq_len tokens of context.
Evaluation evaluate(const Transformer& model,
                    const TokenStore& store,
                    int64_t seq_len,
                    int64_t rows);

}  // namespace braid
