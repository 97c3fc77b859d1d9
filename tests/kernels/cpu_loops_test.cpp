#define BRAID_CPU_ISA cpu_loops_under_test
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/lanes.h"

namespace braid::cpu_loops_under_test {
namespace {

TEST(Exponential, Float32StaysWithin2e7OfTheExactOne) {
  double worst = 0;
  for (int64_t i = 0; i <= 1750000; ++i) {
    const auto x = static_cast<float>(-87 + 1e-4 * static_cast<double>(i));
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(exponential(x)) - exact) / exact);
  }
  EXPECT_LT(worst, 2e-7);
  EXPECT_GT(worst, 0);
}

TEST(Exponential, Float32IsExactAtZeroAndSaturatesOutside) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exponential(0.0f), 1.0f);
  for (const float below : {-87.5f, -100.0f, -1e30f, -kInfinity}) {
    EXPECT_EQ(exponential(below), exponential(-87.0f));
  }
  for (const float above : {88.5f, 100.0f, kInfinity}) {
    EXPECT_EQ(exponential(above), exponential(88.0f));
  }
  EXPECT_TRUE(std::isnan(exponential(std::nanf(""))));
}

TEST(Logarithm, Float32StaysWithin1e7OfTheExactOne) {
  double worst = 0;
  for (int64_t i = -87000; i <= 88000; ++i) {
    const auto x = static_cast<float>(std::exp(1e-3 * static_cast<double>(i)));
    const double exact = std::log(static_cast<double>(x));
    worst = std::max(
        worst,
        std::abs(static_cast<double>(logarithm(x)) - exact) / std::max(1.0, std::abs(exact)));
  }
  EXPECT_LT(worst, 1e-7);
  EXPECT_EQ(logarithm(1.0f), 0.0f);
}

TEST(Dot, SumsEveryProductOfAnyLength) {
  for (const int64_t size : {0, 1, 3, 8, 15, 16, 17, 40, 67, 130}) {
    std::vector<double> a(size), b(size, 2);
    std::iota(a.begin(), a.end(), 1);
    EXPECT_EQ(dot<double>(a.data(), b.data(), size), static_cast<double>(size * (size + 1)));
  }
}

TEST(Lanes, AreFoldedIntoTheirSumAndTheirLargest) {
  Vector<float> v;
  const int64_t lanes = kLanesOf<Vector<float>, float>;
  for (int64_t i = 0; i < lanes; ++i) {
    v[i] = static_cast<float>(i * 7 % lanes);
  }
  EXPECT_EQ(sum_of<float>(v), static_cast<float>(lanes * (lanes - 1) / 2));
  EXPECT_EQ(largest_of<float>(v), static_cast<float>(lanes - 1));
}

}  // namespace
}  // namespace braid::cpu_loops_under_test
