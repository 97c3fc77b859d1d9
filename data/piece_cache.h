#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace braid {

/// The ids of pieces that were encoded before. Its memory is fixed (2 MiB): a piece takes the place
/// of another one of the same hash.
class PieceCache {
 public:
  static constexpr std::size_t kLongestPiece = 32;
  static constexpr std::size_t kMostIds = 6;

  struct alignas(64) Entry {
    char piece[kLongestPiece];
    uint32_t ids[kMostIds];
    uint8_t size = 0;  ///< bytes of the piece; 0 = empty
    uint8_t count = 0;

    bool holds(std::string_view other) const {
      return size == other.size() && std::memcmp(piece, other.data(), other.size()) == 0;
    }

    /// Keeps the ids from `begin` on; not if they are too many.
    void keep(std::string_view other, const std::vector<int64_t>& all, std::size_t begin) {
      if (all.size() - begin > kMostIds) {
        return;
      }
      std::memcpy(piece, other.data(), other.size());
      size = static_cast<uint8_t>(other.size());
      count = static_cast<uint8_t>(all.size() - begin);
      std::copy(all.begin() + static_cast<std::ptrdiff_t>(begin), all.end(), ids);
    }
  };

  /// The place of a piece of 1..kLongestPiece bytes; what it holds may be another one.
  Entry& at(std::string_view piece) {
    return entries_[XXH3_64bits(piece.data(), piece.size()) % kEntries];
  }

 private:
  static constexpr std::size_t kEntries = std::size_t{1} << 15;
  std::vector<Entry> entries_ = std::vector<Entry>(kEntries);
};

}  // namespace braid
