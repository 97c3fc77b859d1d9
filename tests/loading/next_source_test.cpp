#include "data/next_source.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "core/random.h"

namespace braid {
namespace {

/// How far any source is from its share, at the worst of `n` turns.
double worst_deviation(std::vector<double> shares, int64_t n) {
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) {
    share /= sum;
  }
  std::vector<int64_t> turns(shares.size(), 0);
  double worst = 0;
  for (int64_t i = 1; i <= n; ++i) {
    ++turns[next_source(shares, turns)];
    for (std::size_t s = 0; s < shares.size(); ++s) {
      worst = std::max(
          worst, std::abs(static_cast<double>(turns[s]) - shares[s] * static_cast<double>(i)));
    }
  }
  return worst;
}

TEST(NextSource, StaysWithinOneTurnOfEveryShare) {
  EXPECT_EQ(worst_deviation({1}, 100), 0);
  EXPECT_LE(worst_deviation({1, 1}, 100), 0.5);
  EXPECT_LT(worst_deviation({0.7, 0.3}, 1000), 1);
  EXPECT_LT(worst_deviation({1e6, 1, 1}, 10000), 1);
  for (uint64_t trial = 0; trial < 50; ++trial) {
    std::vector<double> shares;
    for (uint64_t s = 0; s < 2 + trial % 20; ++s) {
      shares.push_back(0.01 + std::pow(random_uniform(trial, s), 4));
    }
    EXPECT_LT(worst_deviation(shares, 2000), 1 + 1e-9) << "trial " << trial;
  }
}

// Always taking the source furthest behind leaves one of these 1.03 turns behind.
TEST(NextSource, StaysWithinOneTurnWhereTheFurthestBehindDoesNot) {
  EXPECT_LT(worst_deviation({20, 20, 20, 1, 1}, 1000), 1);
}

TEST(NextSource, TakesTurnsFromTheFirstOn) {
  std::vector<int64_t> turns = {0, 0, 0};
  std::vector<std::size_t> order;
  for (int i = 0; i < 6; ++i) {
    order.push_back(next_source({0.5, 0.25, 0.25}, turns));
    ++turns[order.back()];
  }
  EXPECT_EQ(order, (std::vector<std::size_t>{0, 1, 0, 2, 0, 1}));
}

}  // namespace
}  // namespace braid
