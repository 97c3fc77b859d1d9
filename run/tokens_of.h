#pragma once
#include "data/batch.h"
#include "model/pass.h"

namespace braid {

/// A batch of the loader as the model takes it.
inline Tokens tokens_of(const Batch& batch) {
  return {batch.ids_BS, batch.documents_BS, batch.positions_BS};
}

}  // namespace braid
