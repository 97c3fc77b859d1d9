#include "inference/sampling.h"

#include <limits>

#include <ATen/ATen.h>

#include "core/random.h"
#include "tests/loading/corpus.h"

namespace braid {
namespace {

using testing::error_of;
using testing::expect_mentions;

// Probabilities 0.4, 0.1, 0.3, 0.2 at temperature 1.
at::Tensor logits() {
  return at::tensor({0.4, 0.1, 0.3, 0.2}, at::kDouble).log() + 5;
}

std::vector<double> probabilities(const Sampling& sampling, const at::Tensor& logits_V = logits()) {
  const auto p = sampling_probabilities(logits_V, sampling);
  return {p.data_ptr<double>(), p.data_ptr<double>() + p.numel()};
}

void expect_near(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(got[i], want[i], 1e-14) << "id " << i;
  }
}

TEST(Sampling, WithoutLimitsIsTheSoftmaxAtTheTemperature) {
  expect_near(probabilities({}), {0.4, 0.1, 0.3, 0.2});
  // Squares, normalized.
  expect_near(probabilities({.temperature = 0.5}), {16 / 30.0, 1 / 30.0, 9 / 30.0, 4 / 30.0});
}

TEST(Sampling, TemperatureZeroIsTheMostProbableToken) {
  expect_near(probabilities({.temperature = 0}), {1, 0, 0, 0});
}

TEST(Sampling, TopKKeepsTheMostProbableTokens) {
  expect_near(probabilities({.top_k = 1}), {1, 0, 0, 0});
  expect_near(probabilities({.top_k = 2}), {4 / 7.0, 0, 3 / 7.0, 0});
  expect_near(probabilities({.top_k = 4}), {0.4, 0.1, 0.3, 0.2});
  expect_near(probabilities({.top_k = 100}), {0.4, 0.1, 0.3, 0.2});
}

TEST(Sampling, TopPKeepsTheFewestTokensThatReachIt) {
  expect_near(probabilities({.top_p = 0.39}), {1, 0, 0, 0});
  expect_near(probabilities({.top_p = 0.41}), {4 / 7.0, 0, 3 / 7.0, 0});
  expect_near(probabilities({.top_p = 0.69}), {4 / 7.0, 0, 3 / 7.0, 0});
  expect_near(probabilities({.top_p = 0.71}), {4 / 9.0, 0, 3 / 9.0, 2 / 9.0});
  expect_near(probabilities({.top_p = 1}), {0.4, 0.1, 0.3, 0.2});
}

TEST(Sampling, OneTokenAlwaysStays) {
  expect_near(probabilities({.top_p = 0}), {1, 0, 0, 0});
}

TEST(Sampling, TopPAppliesToWhatTopKLeftAtTheTemperature) {
  // After top-k 3: 4/9, 3/9, 2/9; 0.75 of that needs two, 0.75 of everything would need three.
  expect_near(probabilities({.top_k = 3, .top_p = 0.75}), {4 / 7.0, 0, 3 / 7.0, 0});
  // 16/30 at temperature 0.5 reaches 0.5 alone, 0.4 does not.
  expect_near(probabilities({.temperature = 0.5, .top_p = 0.5}), {1, 0, 0, 0});
}

TEST(Sampling, OfEquallyProbableTokensTheLowerIdsStay) {
  const auto equal = at::zeros({4}, at::kDouble);
  expect_near(probabilities({.top_k = 2}, equal), {0.5, 0.5, 0, 0});
  expect_near(probabilities({.top_p = 0.4}, equal), {0.5, 0.5, 0, 0});
  expect_near(probabilities({.temperature = 0}, equal), {1, 0, 0, 0});
}

TEST(Sampling, DrawsTheFirstIdWhoseCumulatedProbabilityExceedsU) {
  const auto p = at::tensor({0.25, 0.0, 0.5, 0.25}, at::kDouble);
  EXPECT_EQ(drawn_id(p, 0), 0);
  EXPECT_EQ(drawn_id(p, 0.2499), 0);
  EXPECT_EQ(drawn_id(p, 0.25), 2);
  EXPECT_EQ(drawn_id(p, 0.75), 3);
  EXPECT_EQ(drawn_id(p, 0.9999), 3);
  // Probabilities whose rounded sum ends below u give the last possible id.
  EXPECT_EQ(drawn_id(at::tensor({0.5, 0.25, 0.0}, at::kDouble), 0.9), 1);
}

TEST(Sampling, RefusesValuesOutOfRangeAndLogitsThatAreNotFinite) {
  expect_mentions(error_of([] { require_valid({.temperature = -1}); }), {"temperature", "-1"});
  expect_mentions(error_of([] { require_valid({.temperature = 1e-9}); }), {"temperature"});
  expect_mentions(error_of([] { require_valid({.top_k = -1}); }), {"top_k", "-1"});
  expect_mentions(error_of([] { require_valid({.top_p = 1.5}); }), {"top_p", "1.5"});
  expect_mentions(
      error_of([] { require_valid({.top_p = std::numeric_limits<double>::quiet_NaN()}); }),
      {"top_p", "nan"});
  auto broken = logits();
  broken[1] = std::numeric_limits<double>::quiet_NaN();
  expect_mentions(error_of([&] { sampling_probabilities(broken, {}); }), {"not finite"});
}

}  // namespace
}  // namespace braid
