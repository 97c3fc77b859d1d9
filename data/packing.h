#pragma once
#include <cstdint>
#include <vector>

namespace braid {

/// A stretch of a document's inputs (begin token, then its text tokens) that is a context of its
/// own.
struct Chunk {
  int64_t document = 0;
  int64_t begin = 0;   ///< first input; input 0 is the begin token
  int64_t length = 0;  ///< number of inputs, 1..seq_len
};

/// The chunks that share one sequence of seq_len inputs.
using PackedRow = std::vector<Chunk>;

/// Cuts a document of `num_tokens` text tokens into chunks of at most seq_len inputs, in order.
void append_chunks(int64_t document,
                   int64_t num_tokens,
                   int64_t seq_len,
                   std::vector<Chunk>& chunks);

/// Best-fit decreasing: longest chunk first, each into the fullest row that still has room, else
/// into a new row. Every chunk is in exactly one row; the result depends on nothing but the
/// arguments.
std::vector<PackedRow> pack_best_fit(std::vector<Chunk> chunks, int64_t seq_len);

}  // namespace braid
