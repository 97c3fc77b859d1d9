#pragma once
// Random numbers as pure functions: no generator state exists anywhere, so any order of evaluation,
// any grid of ranks and any resumed run draws the same bits.

#include <array>
#include <cstdint>
#include <string_view>

namespace braid {

/// A 64-bit key for one stream of numbers: what they are for, within one run seed.
uint64_t random_key(uint64_t seed, std::string_view purpose);

/// Philox4x32-10 (Salmon et al., SC 2011): 128 random bits for one (key, counter).
std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter);

/// 64 random bits for the element `index` of the stream `key`.
uint64_t random_bits(uint64_t key, uint64_t index);

/// Uniform in [0, 1), 53 bits.
double random_uniform(uint64_t key, uint64_t index);

/// Standard normal (Box-Muller), double precision; a pure function of (key, index).
double random_normal(uint64_t key, uint64_t index);

/// A permutation of 0..size-1 as a function of its argument, without a table: position `index` of
/// the shuffled order (a four-round Feistel network over the next power of four, walked until it
/// lands inside). Requires index < size.
uint64_t permuted_index(uint64_t key, uint64_t index, uint64_t size);

}  // namespace braid
