#pragma once
#include <cstdint>
#include <vector>

#include "optim/ownership.h"
#include "parallel/grid.h"

namespace braid {

/// Which rank updates what, in a grid of ranks.
struct Sharding {
  Ownership dense;    ///< of what every rank holds, within groups of neighbors
  Ownership experts;  ///< of this rank's experts, among those that hold the same
};

/// `zero_group`: ranks in an owner group of dense parameters; 0 = as many as stay within 10 %
/// imbalance. Throws ConfigError for a size that does not divide the ranks, or in fixed order is
/// neither all of them nor a power of two (parallel/gradient_sync.h).
Sharding sharding_of(const std::vector<GroupedParameter>& parameters,
                     const GridPlace& place,
                     int64_t zero_group,
                     bool fixed_order);

}  // namespace braid
