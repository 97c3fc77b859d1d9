#include "core/kept_memory.h"

#include <cstring>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "core/random.h"

namespace braid {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST(KeptMemory, GivesTheSameBlocksAgain) {
  KeptMemory memory(64 * kMiB);
  void* first = memory.take(3 * kMiB);
  void* second = memory.take(5 * kMiB);
  EXPECT_EQ(memory.give_back(first), 3 * kMiB);
  EXPECT_EQ(memory.take(3 * kMiB), first);
  EXPECT_EQ(memory.give_back(second), 5 * kMiB);
  EXPECT_EQ(memory.take(4 * kMiB), second);
  EXPECT_EQ(memory.reached(), 8 * kMiB);
}

TEST(KeptMemory, FreeNeighborsBecomeOne) {
  KeptMemory memory(64 * kMiB);
  std::vector<void*> blocks;
  for (int i = 0; i < 6; ++i) {
    blocks.push_back(memory.take(kMiB));
  }
  for (const int i : {1, 3, 2}) {
    memory.give_back(blocks[static_cast<std::size_t>(i)]);
  }
  EXPECT_EQ(memory.take(3 * kMiB), blocks[1]);
  EXPECT_EQ(memory.reached(), 6 * kMiB);
}

TEST(KeptMemory, RefusesWhatItHasNotAndKnowsNotItsOwn) {
  KeptMemory memory(4 * kMiB);
  EXPECT_EQ(memory.take(5 * kMiB), nullptr);
  void* all = memory.take(4 * kMiB);
  EXPECT_NE(all, nullptr);
  EXPECT_EQ(memory.take(kMiB), nullptr);
  int elsewhere = 0;
  EXPECT_EQ(memory.give_back(&elsewhere), 0u);
  memory.give_back(all);
  EXPECT_EQ(memory.take(kMiB), all);
}

// In any order, blocks never overlap and lie within the range.
TEST(KeptMemory, BlocksKeepTheirContents) {
  KeptMemory memory(512 * kMiB);
  std::map<unsigned char*, std::pair<std::size_t, unsigned char>> live;
  for (uint64_t i = 0; i < 400; ++i) {
    const uint64_t bits = random_bits(1, i);
    if (bits % 3 == 0 && !live.empty()) {
      auto victim = live.begin();
      std::advance(victim, static_cast<std::ptrdiff_t>((bits >> 8) % live.size()));
      const auto [size, mark] = victim->second;
      EXPECT_EQ(victim->first[0], mark);
      EXPECT_EQ(victim->first[size - 1], mark);
      EXPECT_GE(memory.give_back(victim->first), size);
      live.erase(victim);
    } else if (live.size() < 40) {
      const std::size_t size = 1 + (bits >> 16) % (8 * kMiB);
      auto* block = static_cast<unsigned char*>(memory.take(size));
      ASSERT_NE(block, nullptr);
      block[0] = block[size - 1] = static_cast<unsigned char>(i);
      live[block] = {size, static_cast<unsigned char>(i)};
    }
  }
}

}  // namespace
}  // namespace braid
