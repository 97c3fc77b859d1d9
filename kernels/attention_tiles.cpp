#include "kernels/attention_tiles.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "core/sizes.h"
#include "kernels/cpu/threads.h"

namespace braid {
namespace {

// As few queries as keep the products efficient: a tile's keys are those of all of them, and every
// one of its scores is computed.
int64_t queries_per_tile(int64_t heads) {
  constexpr int64_t kRows = 128, kMost = 32, kLeast = 4;
  int64_t queries = kMost;
  while (queries > kLeast && queries * heads > kRows) {
    queries /= 2;
  }
  return queries;
}

// Neighbors that choose the same entries share a tile; where they choose different ones, most of
// its scores would be for nothing, and smaller tiles do less work even at a lower rate.
void add_tiles(const AttentionKeys& keys,
               const QueryTile& queries,
               std::vector<QueryTile>& tiles,
               ListedEntries& listed,
               std::vector<int64_t>& scratch) {
  constexpr int64_t kFewRows = 16;
  const bool can_split =
      keys.chosen != nullptr && queries.count > 1 && queries.count * keys.N > kFewRows;
  if (can_split) {
    listed.collect(keys, queries, scratch);
    if (static_cast<int64_t>(scratch.size()) > 2 * keys.K) {
      const auto [b, first, count] = queries;
      const int64_t half = (count + 1) / 2;
      add_tiles(keys, {b, first, half}, tiles, listed, scratch);
      add_tiles(keys, {b, first + half, count - half}, tiles, listed, scratch);
      return;
    }
  }
  tiles.push_back(queries);
}

}  // namespace

KeySpan hull(const int64_t* first, const int64_t* end, int64_t begin, int64_t count) {
  KeySpan span;
  for (int64_t i = begin; i < begin + count; ++i) {
    if (first[i] < end[i]) {
      span = span.count() == 0
                 ? KeySpan{first[i], end[i]}
                 : KeySpan{std::min(span.first, first[i]), std::max(span.end, end[i])};
    }
  }
  return span;
}

void ListedEntries::collect(const AttentionKeys& keys,
                            const QueryTile& tile,
                            std::vector<int64_t>& entries) {
  bits_.resize(static_cast<std::size_t>(keys.C / kBits + 1));
  int64_t lowest = keys.C, highest = -1;
  const int64_t* list = keys.chosen + (tile.b * keys.S + tile.first) * keys.K;
  for (int64_t query = 0; query < tile.count; ++query, list += keys.K) {
    for (int64_t i = 0; i < keys.K && list[i] >= 0; ++i) {
      bits_[list[i] / kBits] |= uint64_t{1} << (list[i] % kBits);
      highest = std::max(highest, list[i]);
    }
    lowest = keys.K > 0 && list[0] >= 0 ? std::min(lowest, list[0]) : lowest;
  }
  entries.clear();
  for (int64_t word = lowest / kBits; highest >= 0 && word <= highest / kBits; ++word) {
    for (uint64_t bits = std::exchange(bits_[word], 0); bits != 0; bits &= bits - 1) {
      entries.push_back(word * kBits + std::countr_zero(bits));
    }
  }
}

std::vector<QueryTile> attention_tiles(const AttentionKeys& keys) {
  const int64_t queries = queries_per_tile(keys.N), per_row = blocks(keys.S, queries);
  std::vector<std::vector<QueryTile>> parts(keys.B * per_row);
  on_each_thread(keys.B * per_row, [&](const auto& for_each) {
    ListedEntries listed;
    std::vector<int64_t> scratch;
    for_each([&](int64_t i) {
      const int64_t first = i % per_row * queries;
      const QueryTile all{i / per_row, first, std::min(queries, keys.S - first)};
      add_tiles(keys, all, parts[i], listed, scratch);
    });
  });
  std::vector<QueryTile> tiles;
  for (const auto& part : parts) {
    tiles.insert(tiles.end(), part.begin(), part.end());
  }
  return tiles;
}

}  // namespace braid
