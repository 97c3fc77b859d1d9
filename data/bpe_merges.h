#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace braid {

/// Two adjacent symbols and the one they become; ids of the vocabulary.
struct BpeMerge {
  uint32_t left, right, merged;
};

/// Byte-level byte pair encoding of single pieces.
class BpeMerges {
 public:
  /// Memory that merge() uses again from piece to piece.
  struct Scratch {
    struct Candidate {
      uint32_t rank, at, left, right;
    };
    std::vector<uint32_t> symbols, next, previous;
    std::vector<Candidate> heap;
  };

  /// `byte_ids`: the symbol of each byte. `merges` by rank; of a pair that comes twice the later
  /// one holds.
  BpeMerges(const std::array<uint32_t, 256>& byte_ids, const std::vector<BpeMerge>& merges);

  /// Appends the ids of `piece` to `ids`: the adjacent pair of the lowest rank is merged, of equal
  /// ones the leftmost, until none is left. O(n log n) in the bytes of the piece.
  void merge(std::string_view piece, Scratch& scratch, std::vector<int64_t>& ids) const;

 private:
  static constexpr uint32_t kNoRank = ~uint32_t{0};
  static constexpr std::size_t kShort = 32;

  struct Slot {
    uint64_t pair;
    uint32_t rank = kNoRank;
    uint32_t merged;
  };

  const Slot& find(uint32_t left, uint32_t right) const;
  void merge_short(std::string_view piece, std::vector<int64_t>& ids) const;
  void merge_long(std::string_view piece, Scratch& scratch, std::vector<int64_t>& ids) const;

  std::array<uint32_t, 256> byte_ids_;
  std::vector<Slot> slots_;  // open addressing; a power of two, at most half full
  int shift_ = 0;
};

}  // namespace braid
