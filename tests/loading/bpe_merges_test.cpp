#include "data/bpe_merges.h"

#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace braid::testing {
namespace {

std::array<uint32_t, 256> bytes_as_ids() {
  std::array<uint32_t, 256> ids;
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

// The definition, one merge at a time.
std::vector<int64_t> merged_plainly(const std::string& text, const std::vector<BpeMerge>& merges) {
  std::map<std::pair<int64_t, int64_t>, std::size_t> ranks;
  for (std::size_t i = 0; i < merges.size(); ++i) {
    ranks[{merges[i].left, merges[i].right}] = i;
  }
  std::vector<int64_t> ids(text.begin(), text.end());
  while (true) {
    std::size_t best = merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = ranks.find({ids[i], ids[i + 1]});
      if (found != ranks.end() && found->second < best) {
        best = found->second;
        at = i;
      }
    }
    if (best == merges.size()) {
      return ids;
    }
    ids[at] = merges[best].merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

// Short pieces and long ones take different ways.
TEST(BpeMerges, OfEveryLengthAreThoseOfTheDefinition) {
  uint64_t state = 7;
  const auto random = [&state](std::size_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  // Every symbol is the only one of its string, as in a vocabulary.
  std::vector<std::string> symbols(256);
  std::map<std::string, uint32_t> ids;
  for (const char c : std::string("abc")) {
    symbols[static_cast<std::size_t>(c)] = std::string(1, c);
    ids[std::string(1, c)] = static_cast<uint32_t>(c);
  }
  std::vector<BpeMerge> merges;
  std::vector<uint32_t> known = {'a', 'b', 'c'};
  while (merges.size() < 60) {
    const uint32_t left = known[random(known.size())], right = known[random(known.size())];
    const std::string both = symbols[left] + symbols[right];
    if (both.size() <= 9 && ids.try_emplace(both, symbols.size()).second) {
      known.push_back(static_cast<uint32_t>(symbols.size()));
      merges.push_back({left, right, known.back()});
      symbols.push_back(both);
    }
  }
  const BpeMerges bpe(bytes_as_ids(), merges);
  BpeMerges::Scratch scratch;
  for (std::size_t length = 0; length <= 150; ++length) {
    std::string text;
    for (std::size_t i = 0; i < length; ++i) {
      text += static_cast<char>('a' + random(length % 3 + 1));
    }
    std::vector<int64_t> found;
    bpe.merge(text, scratch, found);
    EXPECT_EQ(found, merged_plainly(text, merges)) << text;
  }
}

TEST(BpeMerges, TheLaterOfTwoEqualPairsHolds) {
  const BpeMerges bpe(bytes_as_ids(), {{'a', 'b', 300}, {'b', 'c', 301}, {'a', 'b', 300}});
  BpeMerges::Scratch scratch;
  std::vector<int64_t> found;
  bpe.merge("abc", scratch, found);
  EXPECT_EQ(found, (std::vector<int64_t>{'a', 301}));
}

}  // namespace
}  // namespace braid::testing
