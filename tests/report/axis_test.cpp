#include "report/axis.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "core/error.h"

namespace braid {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Range range_of(double low, double high) {
  Range range;
  range.add(low);
  range.add(high);
  return range;
}

std::vector<std::string> labels_of(const Axis& axis) {
  std::vector<std::string> labels;
  for (const auto& tick : axis.ticks) {
    labels.push_back(tick.label);
  }
  return labels;
}

using Labels = std::vector<std::string>;

TEST(NumberText, IsPlain) {
  EXPECT_EQ(number_text(0), "0");
  EXPECT_EQ(number_text(5.5), "5.5");
  EXPECT_EQ(number_text(0.03125), "0.03125");
  EXPECT_EQ(number_text(12400), "12400");
  EXPECT_EQ(number_text(3.4e15), "3.4e15");
  EXPECT_EQ(number_text(-2e-7), "-2e-7");
  EXPECT_EQ(number_text(kNaN), "-");
  EXPECT_EQ(number_text(-std::numeric_limits<double>::infinity()), "-inf");
}

TEST(NumberText, CountsHaveSuffixes) {
  EXPECT_EQ(number_text(950, NumberStyle::kCount), "950");
  EXPECT_EQ(number_text(1.2e6, NumberStyle::kCount), "1.2M");
  EXPECT_EQ(number_text(999999, NumberStyle::kCount), "1M");
  EXPECT_EQ(number_text(3.4e9, NumberStyle::kCount), "3.4B");
  EXPECT_EQ(number_text(1.5e13, NumberStyle::kCount), "15T");
  EXPECT_EQ(number_text(0.42, NumberStyle::kPercent), "42 %");
}

TEST(NumberText, DifferencesHaveASign) {
  EXPECT_EQ(signed_text(0.03126), "+0.0313");
  EXPECT_EQ(signed_text(-0.5), "-0.5");
  EXPECT_EQ(signed_text(0), "0");
  EXPECT_EQ(fixed_text(2.25), "2.2500");
  EXPECT_EQ(fixed_text(kNaN), "-");
}

TEST(Axis, HasTicksAtRoundNumbers) {
  const auto axis = make_axis(range_of(0, 1.024e6), false, NumberStyle::kCount, 6);
  EXPECT_EQ(labels_of(axis), (Labels{"0", "200k", "400k", "600k", "800k", "1M"}));
  EXPECT_EQ(axis.ticks.front().place, 0);
  EXPECT_NEAR(axis.ticks.back().place, 1 / 1.024, 1e-12);
}

TEST(Axis, TicksOfANarrowRangeDifferInTheirLabels) {
  const auto axis = make_axis(range_of(2.30120, 2.30165), false, NumberStyle::kPlain, 6);
  ASSERT_GE(axis.ticks.size(), 4u);
  for (std::size_t i = 1; i < axis.ticks.size(); ++i) {
    EXPECT_NE(axis.ticks[i].label, axis.ticks[i - 1].label);
  }
}

TEST(Axis, EveryScaleHasAFewTicks) {
  for (const double scale : {1e-12, 1e-3, 1.0, 1e6, 1e20}) {
    for (double high = 1; high < 10; high += 0.37) {
      for (const bool is_log : {false, true}) {
        const auto axis =
            make_axis(range_of(0.9 * scale, high * scale), is_log, NumberStyle::kPlain, 6);
        EXPECT_GE(axis.ticks.size(), 2u) << scale << " " << high << " " << is_log;
        EXPECT_LE(axis.ticks.size(), 14u) << scale << " " << high << " " << is_log;
        for (const auto& tick : axis.ticks) {
          EXPECT_GE(tick.place, -1e-6);
          EXPECT_LE(tick.place, 1 + 1e-6);
        }
      }
    }
  }
}

TEST(Axis, LogarithmicOnesHaveDecades) {
  const auto axis = make_axis(range_of(1e-3, 1e3), true, NumberStyle::kPlain, 6);
  EXPECT_EQ(labels_of(axis), (Labels{"0.001", "0.01", "0.1", "1", "10", "100", "1000"}));
  EXPECT_NEAR(axis.place(1), 0.5, 1e-12);
  EXPECT_TRUE(std::isnan(axis.place(0)));
  EXPECT_TRUE(std::isnan(axis.place(-1)));
  EXPECT_THROW(make_axis(range_of(0, 1), true, NumberStyle::kPlain, 6), Error);
}

TEST(Axis, ARangeOfOneValueIsWidened) {
  for (const double value : {0.0, 2.5, -3e-9, 1e12}) {
    const auto axis = make_axis(range_of(value, value), false, NumberStyle::kPlain, 6);
    EXPECT_NEAR(axis.place(value), 0.5, 1e-6) << value;
    EXPECT_GE(axis.ticks.size(), 2u) << value;
  }
  EXPECT_NEAR(make_axis(range_of(4, 4), true, NumberStyle::kPlain, 6).place(4), 0.5, 1e-9);
}

TEST(Range, KnowsFiniteValuesAlone) {
  Range range;
  EXPECT_TRUE(range.empty());
  range.add({kNaN, std::numeric_limits<double>::infinity()});
  EXPECT_TRUE(range.empty());
  range.add({3, kNaN, -2});
  EXPECT_EQ(range.low(), -2);
  EXPECT_EQ(range.high(), 3);
}

}  // namespace
}  // namespace braid
