#include "report/statistics.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "core/random.h"

namespace braid {
namespace {

constexpr int kTrials = 2000;

// A seed changes both arms alike, and each a little by itself.
struct SimulatedPairs {
  std::vector<double> ours, theirs;
};
SimulatedPairs simulated_pairs(uint64_t trial, int64_t n, double difference) {
  const uint64_t key = random_key(trial, "pairs");
  SimulatedPairs pairs;
  for (int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<uint64_t>(3 * i);
    const double common = 2.5 + 0.05 * random_normal(key, at);
    pairs.ours.push_back(common + difference + 0.01 * random_normal(key, at + 1));
    pairs.theirs.push_back(common + 0.01 * random_normal(key, at + 2));
  }
  return pairs;
}

// The share of trials in which an interval holds the true difference.
template <class IntervalOf>
double coverage(int trials, double truth, const IntervalOf& interval_of) {
  int held = 0;
  for (int trial = 0; trial < trials; ++trial) {
    held += interval_of(static_cast<uint64_t>(trial)).contains(truth) ? 1 : 0;
  }
  return static_cast<double>(held) / trials;
}

TEST(Statistics, SummaryIsMeanAndSampleDeviation) {
  const auto summary = summary_of({1, 2, 4});
  EXPECT_EQ(summary.n, 3);
  EXPECT_DOUBLE_EQ(summary.mean, 7.0 / 3);
  EXPECT_DOUBLE_EQ(summary.sd, std::sqrt(7.0 / 3));
  EXPECT_TRUE(std::isnan(summary_of({}).mean));
  EXPECT_TRUE(std::isnan(summary_of({1}).sd));
}

// Tables give 12.706, 4.303, ... One and two degrees have closed forms; those of 3, 10 and 30 are
// from the finite sums of whole degrees (Abramowitz and Stegun 26.7.3 and 26.7.4) in 40 digits.
TEST(Statistics, QuantilesOfStudentsTAreThoseOfTheTables) {
  const double share = 0.975;
  EXPECT_NEAR(student_t_quantile(share, 1) / std::tan(std::numbers::pi * (share - 0.5)), 1, 1e-12);
  const double two = (2 * share - 1) * std::sqrt(2 / (4 * share * (1 - share)));
  EXPECT_NEAR(student_t_quantile(share, 2) / two, 1, 1e-12);
  EXPECT_NEAR(student_t_quantile(share, 3), 3.182446305284263, 1e-11);
  EXPECT_NEAR(student_t_quantile(share, 10), 2.228138851986275, 1e-11);
  EXPECT_NEAR(student_t_quantile(share, 30), 2.042272456301238, 1e-11);
  EXPECT_DOUBLE_EQ(student_t_quantile(0.025, 7), -student_t_quantile(0.975, 7));
}

TEST(Statistics, SmallTailsOfStudentsTKeepTheirDigits) {
  for (const double t : {-0.01, -3.5, -40.0, -1e5}) {
    const double root = std::sqrt(2 + t * t);
    const double exact = 1 / (root * (root - t));  // (1 + t / root) / 2, without cancellation
    EXPECT_NEAR(student_t_cdf(t, 2) / exact, 1, 1e-12) << t;
    EXPECT_DOUBLE_EQ(student_t_cdf(-t, 2), 1 - student_t_cdf(t, 2));
  }
}

TEST(Statistics, QuantilesInvertTheirDistribution) {
  for (const double degrees : {0.7, 1.0, 2.0, 4.7, 25.0, 400.0}) {
    for (const double probability : {1e-6, 0.025, 0.3, 0.8, 0.999}) {
      const double t = student_t_quantile(probability, degrees);
      EXPECT_NEAR(student_t_cdf(t, degrees) / probability, 1, 1e-9) << degrees;
      EXPECT_NEAR(normal_cdf(normal_quantile(probability)) / probability, 1, 1e-12);
    }
  }
  EXPECT_NEAR(normal_quantile(0.975), 1.959963984540054, 1e-12);
}

TEST(Statistics, IncompleteBetaHasItsClosedForms) {
  EXPECT_NEAR(incomplete_beta(2, 3, 0.5), 11.0 / 16, 1e-14);
  EXPECT_NEAR(incomplete_beta(1, 1, 0.3), 0.3, 1e-14);
  EXPECT_NEAR(
      incomplete_beta(0.5, 0.5, 0.3), 2 / std::numbers::pi * std::asin(std::sqrt(0.3)), 1e-14);
  EXPECT_EQ(incomplete_beta(2, 3, 0), 0);
  EXPECT_EQ(incomplete_beta(2, 3, 1), 1);
}

// What pairing is for: the deviation between seeds is five times that within a pair.
TEST(Statistics, PairedIntervalsHoldTheTrueDifferenceAsOftenAsTheySay) {
  for (const int64_t n : {3, 5}) {
    const double share = coverage(kTrials, -0.02, [n](uint64_t trial) {
      const auto [ours, theirs] = simulated_pairs(trial, n, -0.02);
      return *paired_difference(ours, theirs).t;
    });
    EXPECT_GE(share, 0.93) << n;
    EXPECT_LE(share, 0.97) << n;
  }
}

TEST(Statistics, WelchIntervalsHoldTheTrueDifferenceAsOftenAsTheySay) {
  const double share = coverage(kTrials, 1, [](uint64_t trial) {
    const uint64_t key = random_key(trial, "welch");
    std::vector<double> wide, narrow;
    for (uint64_t i = 0; i < 6; ++i) {
      wide.push_back(1 + 3 * random_normal(key, i));
    }
    for (uint64_t i = 6; i < 16; ++i) {
      narrow.push_back(random_normal(key, i));
    }
    return *welch_difference(wide, narrow).t;
  });
  EXPECT_GE(share, 0.93);
  EXPECT_LE(share, 0.97);
}

TEST(Statistics, BootstrapIsClosePastItsFirstSize) {
  const double share = coverage(300, 0, [](uint64_t trial) {
    const uint64_t key = random_key(trial, "bootstrapped");
    std::vector<double> values;
    for (uint64_t i = 0; i < static_cast<uint64_t>(kBootstrapFrom); ++i) {
      values.push_back(random_normal(key, i));
    }
    return bootstrap_of_mean(values);
  });
  EXPECT_GE(share, 0.89);
  EXPECT_LE(share, 0.97);
}

TEST(Statistics, BootstrapIsAFunctionOfItsArguments) {
  const std::vector<double> values = {1, 5, 2, 8, 3, 3, 7};
  const auto a = bootstrap_of_mean(values), b = bootstrap_of_mean(values);
  EXPECT_EQ(a.low, b.low);
  EXPECT_EQ(a.high, b.high);
  EXPECT_LT(a.low, 29.0 / 7);
  EXPECT_GT(a.high, 29.0 / 7);
  const auto equal = bootstrap_of_mean({2, 2, 2});
  EXPECT_EQ(equal.low, 2);
  EXPECT_EQ(equal.high, 2);
}

TEST(Statistics, DifferencesWithoutSpreadAreCertain) {
  const auto same = paired_difference({1, 2, 3}, {1, 2, 3});
  EXPECT_EQ(same.p, 1);
  EXPECT_EQ(same.t->low, 0);
  const auto shifted = paired_difference({2, 3, 4}, {1, 2, 3});
  EXPECT_EQ(shifted.p, 0);
  EXPECT_EQ(shifted.mean, 1);
}

TEST(Statistics, OnePairHasNoInterval) {
  const auto single = paired_difference({2}, {1});
  EXPECT_EQ(single.mean, 1);
  EXPECT_FALSE(single.t);
  EXPECT_EQ(single.p, 1);
  EXPECT_FALSE(welch_difference({2}, {1, 3}).t);
}

TEST(Statistics, HolmAdjustsTheSmallestPTheMost) {
  const auto adjusted = holm_adjusted({0.01, 0.04, 0.03, 0.005});
  const std::vector<double> expected = {0.03, 0.06, 0.06, 0.02};
  ASSERT_EQ(adjusted.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(adjusted[i], expected[i], 1e-15) << i;
  }
  EXPECT_EQ(holm_adjusted({0.9, 0.8}), (std::vector<double>{1, 1}));
  EXPECT_TRUE(holm_adjusted({}).empty());
}

}  // namespace
}  // namespace braid
