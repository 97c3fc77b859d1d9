#include "data/packing.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

namespace braid {

void append_chunks(int64_t document,
                   int64_t num_tokens,
                   int64_t seq_len,
                   std::vector<Chunk>& chunks) {
  const int64_t num_inputs = 1 + num_tokens;
  for (int64_t begin = 0; begin < num_inputs; begin += seq_len) {
    chunks.push_back({document, begin, std::min(seq_len, num_inputs - begin)});
  }
}

std::vector<PackedRow> pack_best_fit(std::vector<Chunk> chunks, int64_t seq_len) {
  std::stable_sort(chunks.begin(), chunks.end(), [](const Chunk& a, const Chunk& b) {
    return a.length > b.length;
  });
  std::vector<PackedRow> rows;
  std::set<std::pair<int64_t, std::size_t>> open;  // (free inputs, row), for rows that are not full
  for (const Chunk& chunk : chunks) {
    int64_t room = seq_len;
    std::size_t row = rows.size();
    if (const auto fullest = open.lower_bound({chunk.length, 0}); fullest != open.end()) {
      std::tie(room, row) = *fullest;
      open.erase(fullest);
    } else {
      rows.emplace_back();
    }
    rows[row].push_back(chunk);
    if (room > chunk.length) {
      open.emplace(room - chunk.length, row);
    }
  }
  return rows;
}

}  // namespace braid
