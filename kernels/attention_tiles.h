#pragma once
// How the CPU kernel of attention cuts the queries of a batch into tiles.
#include <cstdint>
#include <vector>

namespace braid {

/// Which keys the queries see (kernels/attention.h), and how many there are of each kind.
struct AttentionKeys {
  const int64_t *window_first, *window_end;  ///< [B, S], of U raw keys
  const int64_t *entry_first, *entry_end;    ///< [B, S], of C entries
  const int64_t* chosen;                     ///< [B, S, K] entries, or null
  int64_t B, S, N, U, C, K;
};

/// Keys [first, end).
struct KeySpan {
  int64_t first = 0, end = 0;
  int64_t count() const { return end - first; }
};

/// The smallest span of keys that holds all that the queries [begin, begin + count) see.
KeySpan hull(const int64_t* first, const int64_t* end, int64_t begin, int64_t count);

/// Queries [first, first + count) of sequence b, all heads.
struct QueryTile {
  int64_t b, first, count;
};

/// The entries that a tile's queries list, each once and ascending, by way of a bit for each entry.
class ListedEntries {
 public:
  void collect(const AttentionKeys& keys, const QueryTile& tile, std::vector<int64_t>& entries);

 private:
  static constexpr int64_t kBits = 64;
  std::vector<uint64_t> bits_;  // all zero between calls
};

/// All queries, in the order of the batch.
std::vector<QueryTile> attention_tiles(const AttentionKeys& keys);

}  // namespace braid
