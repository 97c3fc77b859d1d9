#include "data/packing.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "core/error.h"

namespace braid {

void append_chunks(const Chunk& stretch, int64_t seq_len, std::vector<Chunk>& chunks) {
  const int64_t end = stretch.begin + stretch.length;
  for (int64_t begin = stretch.begin; begin < end; begin += seq_len) {
    chunks.push_back({stretch.document, begin, std::min(seq_len, end - begin)});
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

std::vector<PackedRow> pack_together(const std::vector<Chunk>& documents,
                                     int64_t together,
                                     int64_t seq_len) {
  const auto size = static_cast<std::size_t>(together);
  std::vector<Chunk> samples;  // each as one chunk, whose "document" is its index
  for (std::size_t first = 0; first < documents.size(); first += size) {
    int64_t length = 0;
    for (std::size_t i = first; i < first + size; ++i) {
      length += documents[i].length;
    }
    require(length <= seq_len,
            "documents ",
            documents[first].document,
            " and ",
            documents[first + size - 1].document,
            ", which belong together, have ",
            length,
            " inputs; a row holds ",
            seq_len,
            ": leave long ones out (data.too_long), or make rows longer (data.seq_len)");
    samples.push_back({static_cast<int64_t>(first), 0, length});
  }
  auto rows = pack_best_fit(std::move(samples), seq_len);
  for (PackedRow& row : rows) {
    PackedRow whole;
    for (const Chunk& sample : row) {
      const auto first = documents.begin() + sample.document;
      whole.insert(whole.end(), first, first + together);
    }
    row = std::move(whole);
  }
  return rows;
}

std::vector<Chunk> joined_stretches(std::vector<Chunk> chunks) {
  std::sort(chunks.begin(), chunks.end(), [](const Chunk& a, const Chunk& b) {
    return std::pair(a.document, a.begin) < std::pair(b.document, b.begin);
  });
  std::vector<Chunk> stretches;
  for (const Chunk& chunk : chunks) {
    if (!stretches.empty() && stretches.back().document == chunk.document &&
        stretches.back().begin + stretches.back().length == chunk.begin) {
      stretches.back().length += chunk.length;
    } else {
      stretches.push_back(chunk);
    }
  }
  return stretches;
}

}  // namespace braid
