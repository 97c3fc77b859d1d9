#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace braid {

/// The source of the next sample, given each source's share (all shares sum to 1) and samples
/// ("turns") so far. After any number n of turns every source has had share * n of them, within
/// less than 1: among the sources that have had less than their share of n + 1 turns, the one whose
/// next turn has the earliest deadline goes first (pfair scheduling: Baruah et al., Algorithmica
/// 1996). The simpler choice, the source furthest behind, breaks that bound when there are many.
std::size_t next_source(const std::vector<double>& shares, const std::vector<int64_t>& turns);

}  // namespace braid
