#include "data/packing.h"

#include <map>

#include <gtest/gtest.h>

#include "core/random.h"

namespace braid {
namespace {

TEST(Packing, CutsADocumentIntoConsecutiveChunksThatCoverItsInputsOnce) {
  for (int64_t num_tokens = 1; num_tokens <= 20; ++num_tokens) {
    std::vector<Chunk> chunks;
    append_chunks({7, 0, 1 + num_tokens}, 5, chunks);
    int64_t next = 0;
    for (const Chunk& chunk : chunks) {
      EXPECT_EQ(chunk.document, 7);
      EXPECT_EQ(chunk.begin, next);
      EXPECT_GE(chunk.length, 1);
      EXPECT_LE(chunk.length, 5);
      next += chunk.length;
    }
    EXPECT_EQ(next, 1 + num_tokens);
  }
}

TEST(Packing, CutsFromWhereAStretchBegins) {
  std::vector<Chunk> chunks;
  append_chunks({3, 7, 9}, 4, chunks);
  EXPECT_EQ(chunks, (std::vector<Chunk>{{3, 7, 4}, {3, 11, 4}, {3, 15, 1}}));
}

TEST(Packing, JoinsTheStretchesThatAdjoin) {
  EXPECT_EQ(joined_stretches({{2, 8, 4}, {1, 4, 4}, {2, 0, 4}, {1, 0, 4}, {2, 12, 1}}),
            (std::vector<Chunk>{{1, 0, 8}, {2, 0, 4}, {2, 8, 5}}));
  EXPECT_TRUE(joined_stretches({}).empty());
}

TEST(Packing, EveryChunkIsInExactlyOneRowAndNoRowOverflows) {
  std::vector<Chunk> chunks;
  for (int64_t document = 0; document < 500; ++document) {
    const uint64_t bits = random_bits(1, static_cast<uint64_t>(document));
    append_chunks({document, 0, 2 + static_cast<int64_t>(bits % 90)}, 32, chunks);
  }
  std::map<std::pair<int64_t, int64_t>, int> seen;
  int64_t inputs = 0;
  const auto rows = pack_best_fit(chunks, 32);
  for (const PackedRow& row : rows) {
    int64_t filled = 0;
    for (const Chunk& chunk : row) {
      filled += chunk.length;
      ++seen[{chunk.document, chunk.begin}];
    }
    EXPECT_LE(filled, 32);
    inputs += filled;
  }
  EXPECT_EQ(seen.size(), chunks.size());
  for (const auto& [chunk, count] : seen) {
    EXPECT_EQ(count, 1);
  }
  EXPECT_LT(static_cast<double>(rows.size()), 1.02 * static_cast<double>(inputs) / 32);
}

TEST(Packing, PutsAChunkIntoTheFullestRowThatHasRoom) {
  const auto rows = pack_best_fit({{0, 0, 2}, {1, 0, 5}, {2, 0, 7}, {3, 0, 3}}, 10);
  ASSERT_EQ(rows.size(), 2u);
  ASSERT_EQ(rows[0].size(), 2u);  // 7 + 3, not 5 + 3
  EXPECT_EQ(rows[0][0].document, 2);
  EXPECT_EQ(rows[0][1].document, 3);
  EXPECT_EQ(rows[1][0].document, 1);
  EXPECT_EQ(rows[1][1].document, 0);
}

TEST(Packing, OfNothingIsNothing) {
  EXPECT_TRUE(pack_best_fit({}, 8).empty());
}

}  // namespace
}  // namespace braid
