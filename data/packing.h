#pragma once
#include <cstdint>
#include <vector>

namespace braid {

/// A stretch of a document's inputs (begin token, then its text tokens). In a row it is a context
/// of its own.
struct Chunk {
  int64_t document = 0;
  int64_t begin = 0;   ///< first input; input 0 is the begin token
  int64_t length = 0;  ///< number of inputs
  bool operator==(const Chunk&) const = default;
};

/// The chunks that share one sequence of seq_len inputs.
using PackedRow = std::vector<Chunk>;

/// Cuts a stretch into chunks of at most seq_len inputs, in order.
void append_chunks(const Chunk& stretch, int64_t seq_len, std::vector<Chunk>& chunks);

/// Best-fit decreasing: longest chunk first, each into the fullest row that still has room, else
/// into a new row. Every chunk is in exactly one row; the result depends on nothing but the
/// arguments.
std::vector<PackedRow> pack_best_fit(std::vector<Chunk> chunks, int64_t seq_len);

/// The same of stretches that are whole documents, of which each `together` consecutive numbers
/// (2 i and 2 i + 1) share a row, one behind the other: their sum must not exceed seq_len.
std::vector<PackedRow> pack_together(const std::vector<Chunk>& documents,
                                     int64_t together,
                                     int64_t seq_len);

/// The chunks by document and begin, those that follow each other directly joined into one.
std::vector<Chunk> joined_stretches(std::vector<Chunk> chunks);

}  // namespace braid
