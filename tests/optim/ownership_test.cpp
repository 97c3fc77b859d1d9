#include "optim/ownership.h"

#include <algorithm>
#include <tuple>

#include <gtest/gtest.h>

namespace braid {
namespace {

// Matrices of three sizes and rows without Newton-Schulz work, in no order.
std::vector<Unit> mixed_units(int64_t count) {
  std::vector<Unit> units;
  for (int64_t i = 0; i < count; ++i) {
    const double flops = i % 4 == 0 ? 0 : static_cast<double>(100 * (i % 3 + 1));
    units.push_back({{0, i, i + 1}, flops, 7 + i % 5});
  }
  return units;
}

// One owner after another is looked at for each unit.
std::vector<int64_t> owners_one_by_one(const std::vector<Unit>& units, int64_t owners) {
  std::vector<std::size_t> order(units.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
  }
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return std::tie(units[a].flops, units[a].state_bytes) >
           std::tie(units[b].flops, units[b].state_bytes);
  });
  std::vector<double> flops(static_cast<std::size_t>(owners));
  std::vector<int64_t> bytes(flops.size()), owner(units.size());
  for (const std::size_t u : order) {
    std::size_t least = 0;
    for (std::size_t o = 1; o < flops.size(); ++o) {
      const bool less = units[u].flops > 0
                            ? std::tie(flops[o], bytes[o]) < std::tie(flops[least], bytes[least])
                            : bytes[o] < bytes[least];
      least = less ? o : least;
    }
    flops[least] += units[u].flops;
    bytes[least] += units[u].state_bytes;
    owner[u] = static_cast<int64_t>(least);
  }
  return owner;
}

TEST(Ownership, GivesEachUnitToTheLeastLoaded) {
  for (const int64_t count : {0, 1, 5, 40}) {
    for (const int64_t owners : {1, 2, 3, 7, 50}) {
      EXPECT_EQ(balanced_ownership(mixed_units(count), owners).owner,
                owners_one_by_one(mixed_units(count), owners))
          << count << " units, " << owners << " owners";
    }
  }
}

TEST(Ownership, OfAMillionRanksIsFoundAtOnce) {
  const auto units = mixed_units(2000);
  const auto any = [](int64_t) { return true; };
  const int64_t owners = largest_balanced_group(units, 1'000'000, any);
  EXPECT_EQ(1'000'000 % owners, 0);
  EXPECT_LE(balanced_ownership(units, owners).flops_imbalance(), 1.1);
  EXPECT_EQ(largest_balanced_group({}, 1'000'000, any), 1'000'000);
}

}  // namespace
}  // namespace braid
