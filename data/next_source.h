#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace braid {

/// Whose turn it is, given each source's share (of 1 in all) and turns so far. Taking turns so,
/// after any number n of them every source has had share * n, give or take less than 1: among the
/// sources that have had less than their share of n + 1 turns, the one whose next turn would
/// soonest be late goes first (pfair scheduling: Baruah et al., Algorithmica 1996). The choice of
/// the source furthest behind, simpler, misses that bound when there are many.
std::size_t next_source(const std::vector<double>& shares, const std::vector<int64_t>& turns);

}  // namespace braid
