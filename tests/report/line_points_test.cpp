#include "report/line_points.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/random.h"

namespace braid {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<double> noise(std::size_t count) {
  std::vector<double> values;
  for (std::size_t i = 0; i < count; ++i) {
    values.push_back(random_uniform(random_key(1, "noise"), i));
  }
  return values;
}

TEST(KeptPoints, AreAllOfAShortLine) {
  EXPECT_TRUE(kept_points({}, {}, 4).empty());
  EXPECT_EQ(kept_points({5}, {5}, 4), std::vector<std::size_t>{0});
  EXPECT_EQ(kept_points({5, kNaN, 2, 1}, {5, kNaN, 2, 1}, 4),
            (std::vector<std::size_t>{0, 1, 2, 3}));
}

TEST(KeptPoints, OfALongLineHoldItsExtremesAndEnds) {
  auto values = noise(100000);
  values[31234] = 50;  // a spike of one step ...
  values[77777] = -50;
  for (const std::size_t most : {4, 5, 100, 480}) {
    const auto kept = kept_points(values, values, most);
    EXPECT_LE(kept.size(), most);
    EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
    EXPECT_EQ(std::adjacent_find(kept.begin(), kept.end()), kept.end());
    for (const std::size_t must : {0, 31234, 77777, 99999}) {
      EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), must)) << must << " of " << most;
    }
  }
}

TEST(KeptPoints, OfEveryPartHoldItsLowestAndHighest) {
  const auto values = noise(1000);
  const auto kept = kept_points(values, values, 22);  // ten parts
  for (std::size_t part = 0; part < 10; ++part) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(100 * part);
    for (const auto extreme :
         {std::min_element(begin, begin + 100), std::max_element(begin, begin + 100)}) {
      const auto index = static_cast<std::size_t>(extreme - values.begin());
      EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), index)) << index;
    }
  }
}

TEST(KeptPoints, OfABandHoldBothItsSides) {
  auto low = noise(1000), high = noise(1000);
  low[500] = -9;
  high[501] = 9;
  const auto kept = kept_points(low, high, 10);
  EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), 500));
  EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), 501));
}

TEST(KeptPoints, ShowAGapWhereAPartHasNoValue) {
  std::vector<double> values(1000, 1);
  std::fill(values.begin() + 400, values.begin() + 600, kNaN);
  values[50] = kNaN;  // too short to be seen
  int gaps = 0;
  for (const auto i : kept_points(values, values, 22)) {
    gaps += std::isnan(values[i]) ? 1 : 0;
  }
  EXPECT_EQ(gaps, 2);
}

TEST(Smoothed, IsTheMeanAroundEachValue) {
  EXPECT_EQ(smoothed({1, 2, 6, 4}, 3), (std::vector<double>{1.5, 3, 4, 5}));
  EXPECT_EQ(smoothed({1, 2, 6, 4}, 1), (std::vector<double>{1, 2, 6, 4}));
  EXPECT_TRUE(smoothed({}, 5).empty());
  EXPECT_THROW(smoothed({1}, 2), Error);
}

TEST(Smoothed, LeavesMissingValuesOut) {
  const auto result = smoothed({kNaN, 2, kNaN, kNaN, kNaN, 8}, 3);
  EXPECT_EQ(result[0], 2);
  EXPECT_EQ(result[2], 2);
  EXPECT_TRUE(std::isnan(result[3]));
  EXPECT_EQ(result[4], 8);
}

TEST(Smoothed, StaysExactOverManySteps) {
  const std::vector<double> constant(200000, 1e6 + 0.1);
  const auto result = smoothed(constant, 2001);
  EXPECT_EQ(*std::min_element(result.begin(), result.end()), 1e6 + 0.1);
  EXPECT_EQ(*std::max_element(result.begin(), result.end()), 1e6 + 0.1);
}

TEST(Smoothed, WindowsAreOddSharesOfACurve) {
  EXPECT_EQ(window_of(0.01, 0), 1u);
  EXPECT_EQ(window_of(0.01, 150), 1u);
  EXPECT_EQ(window_of(0.05, 500), 25u);
  EXPECT_EQ(window_of(0.01, 100000), 1001u);
}

}  // namespace
}  // namespace braid
