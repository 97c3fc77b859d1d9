#include "report/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "core/error.h"
#include "core/random.h"

namespace braid {
namespace {

constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();

// The continued fraction of I_x(a, b), by Lentz's method; converges fast for x below the mean.
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300, kPrecision = 1e-16;
  constexpr int kMostTerms = 10'000;
  const auto not_zero = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double c = 1, d = 1 / not_zero(1 - (a + b) * x / (a + 1)), fraction = d;
  for (int m = 1; m <= kMostTerms; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / not_zero(1 + even * d);
    c = not_zero(1 + even / c);
    fraction *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / not_zero(1 + odd * d);
    c = not_zero(1 + odd / c);
    fraction *= d * c;
    if (std::abs(d * c - 1) < kPrecision) {
      break;
    }
  }
  return fraction;
}

// The argument between two at which an increasing function has this value.
template <class Function>
double inverse(const Function& function, double value, double low, double high) {
  for (int i = 0; i < 200; ++i) {
    const double middle = low + (high - low) / 2;
    if (middle == low || middle == high) {
      break;
    }
    (function(middle) < value ? low : high) = middle;
  }
  return low + (high - low) / 2;
}

// The interval and the p value of a mean with this standard error.
void judge_by_t(Difference& difference, double standard_error) {
  const double half =
      student_t_quantile((1 + kConfidence) / 2, difference.degrees) * standard_error;
  difference.t = Interval{difference.mean - half, difference.mean + half};
  // Equal numbers leave no doubt.
  difference.p = standard_error > 0 ? 2 * student_t_cdf(-std::abs(difference.mean) / standard_error,
                                                        difference.degrees)
                                    : (difference.mean == 0 ? 1 : 0);
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// The value below which this share of sorted ones lies, between neighbours interpolated.
double quantile_of(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const auto above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - std::floor(place)) * (sorted[above] - sorted[below]);
}

// How strongly the mean's error grows with the mean: Efron's acceleration, from leaving out one
// number at a time.
double acceleration_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double squares = 0, cubes = 0;
  for (const double value : values) {  // the jackknife's deviations are (value - mean) / (n - 1)
    squares += (value - mean) * (value - mean);
    cubes += std::pow(value - mean, 3);
  }
  return squares > 0 ? cubes / (6 * std::pow(squares, 1.5)) : 0;
}

}  // namespace

Summary summary_of(const std::vector<double>& values) {
  Summary summary{.n = static_cast<int64_t>(values.size()), .mean = kNotANumber, .sd = kNotANumber};
  if (values.empty()) {
    return summary;
  }
  summary.mean = mean_of(values);
  if (values.size() > 1) {
    double squares = 0;
    for (const double value : values) {
      squares += (value - summary.mean) * (value - summary.mean);
    }
    summary.sd = std::sqrt(squares / static_cast<double>(values.size() - 1));
  }
  return summary;
}

double mean_of_last_tenth(const std::vector<double>& values) {
  const auto n = std::min(values.size(), std::max<std::size_t>(1, values.size() / 10));
  return summary_of({values.end() - static_cast<std::ptrdiff_t>(n), values.end()}).mean;
}

Difference paired_difference(const std::vector<double>& ours, const std::vector<double>& theirs) {
  require(ours.size() == theirs.size() && !ours.empty(),
          "[paired_difference] ",
          ours.size(),
          " and ",
          theirs.size(),
          " numbers make no pairs");
  std::vector<double> differences;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    differences.push_back(ours[i] - theirs[i]);
  }
  const auto summary = summary_of(differences);
  Difference result{.paired = true, .n = summary.n, .mean = summary.mean, .sd = summary.sd};
  if (result.n > 1) {
    result.degrees = static_cast<double>(result.n - 1);
    judge_by_t(result, summary.sd / std::sqrt(static_cast<double>(result.n)));
  }
  if (result.n >= kBootstrapFrom) {
    result.bootstrap = bootstrap_of_mean(differences);
  }
  return result;
}

Difference welch_difference(const std::vector<double>& ours, const std::vector<double>& theirs) {
  require(!ours.empty() && !theirs.empty(), "[welch_difference] a sample is empty");
  const auto a = summary_of(ours), b = summary_of(theirs);
  Difference result{
      .paired = false, .n = std::min(a.n, b.n), .mean = a.mean - b.mean, .sd = kNotANumber};
  if (result.n > 1) {
    const auto na = static_cast<double>(a.n), nb = static_cast<double>(b.n);
    const double va = a.sd * a.sd / na, vb = b.sd * b.sd / nb;
    result.degrees = va + vb > 0 ? (va + vb) * (va + vb) / (va * va / (na - 1) + vb * vb / (nb - 1))
                                 : na + nb - 2;
    judge_by_t(result, std::sqrt(va + vb));
  }
  return result;
}

Interval bootstrap_of_mean(const std::vector<double>& values, uint64_t seed) {
  require(!values.empty(), "[bootstrap_of_mean] there are no numbers");
  constexpr std::size_t kResamples = 4'000;
  const uint64_t key = random_key(seed, "bootstrap");
  const auto n = values.size();
  std::vector<double> means(kResamples);
  for (std::size_t r = 0; r < kResamples; ++r) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      sum += values[random_bits(key, r * n + i) % n];
    }
    means[r] = sum / static_cast<double>(n);
  }
  std::ranges::sort(means);
  const double mean = mean_of(values);
  const auto below = std::ranges::lower_bound(means, mean) - means.begin();
  const auto equal = std::ranges::upper_bound(means, mean) - means.begin() - below;
  const double share = (static_cast<double>(below) + static_cast<double>(equal) / 2) / kResamples;
  if (share <= 0 || share >= 1) {  // all numbers are equal, up to rounding
    return {means.front(), means.back()};
  }
  const double bias = normal_quantile(share), acceleration = acceleration_of(values);
  const auto corrected = [&](double probability) {
    const double z = bias + normal_quantile(probability);
    return normal_cdf(bias + z / (1 - acceleration * z));
  };
  return {quantile_of(means, corrected((1 - kConfidence) / 2)),
          quantile_of(means, corrected((1 + kConfidence) / 2))};
}

double incomplete_beta(double a, double b, double x) {
  require(a > 0 && b > 0 && x >= 0 && x <= 1,
          "[incomplete_beta] a = ",
          a,
          ", b = ",
          b,
          ", x = ",
          x,
          "; expected a, b > 0 and x in [0, 1]");
  if (x == 0 || x == 1) {
    return x;
  }
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                   : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double student_t_cdf(double t, double degrees) {
  require(degrees > 0, "[student_t_cdf] ", degrees, " degrees of freedom; expected more than 0");
  // Of the two forms of x, that whose small side is exact.
  const double square = t * t;
  const double tail = square < degrees
                          ? (1 - incomplete_beta(0.5, degrees / 2, square / (degrees + square))) / 2
                          : incomplete_beta(degrees / 2, 0.5, degrees / (degrees + square)) / 2;
  return t < 0 ? tail : 1 - tail;
}

double student_t_quantile(double probability, double degrees) {
  require(probability > 0 && probability < 1,
          "[student_t_quantile] ",
          probability,
          " is no probability in (0, 1)");
  if (probability > 0.5) {
    return -student_t_quantile(1 - probability, degrees);
  }
  double low = -1;
  while (student_t_cdf(low, degrees) > probability && std::isfinite(low)) {
    low *= 2;
  }
  return inverse([degrees](double t) { return student_t_cdf(t, degrees); }, probability, low, 0);
}

double normal_cdf(double z) {
  return std::erfc(-z / std::numbers::sqrt2) / 2;
}

double normal_quantile(double probability) {
  require(probability > 0 && probability < 1,
          "[normal_quantile] ",
          probability,
          " is no probability in (0, 1)");
  return inverse(normal_cdf, probability, -40, 40);
}

std::vector<double> holm_adjusted(const std::vector<double>& p) {
  std::vector<std::size_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&p](std::size_t i) { return p[i]; });
  std::vector<double> adjusted(p.size());
  double largest = 0;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    const double times = static_cast<double>(p.size() - rank);
    largest = std::max(largest, std::min(1.0, times * p[order[rank]]));
    adjusted[order[rank]] = largest;
  }
  return adjusted;
}

}  // namespace braid
