#pragma once
#include "model/transformer.h"
#include "parallel/grid.h"

namespace braid {

/// Throws Error on all ranks when weights that every rank computes or receives alike do not have
/// the same bits on each. Every rank calls this.
void compare_weights(const Transformer& model, const ProcessGrid& grid, int64_t step);

}  // namespace braid
