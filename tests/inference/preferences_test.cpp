#include "inference/preferences.h"

#include <cmath>

#include <gtest/gtest.h>

namespace braid {
namespace {

const DocumentScore kChosen{-12.5, 5}, kRejected{-30, 8}, kChosenBefore{-14, 5},
    kRejectedBefore{-27, 8};

PreferenceLoss loss_of(const PreferenceOptions& options,
                       double chosen = kChosen.log_probability,
                       double rejected = kRejected.log_probability) {
  return preference_loss(options, {chosen, 5}, {rejected, 8}, kChosenBefore, kRejectedBefore);
}

TEST(Preferences, TheMarginIsTheDifferenceOfTheLogProbabilitiesGained) {
  const auto plain = loss_of({.beta = 0.2});
  EXPECT_NEAR(plain.chosen_reward, 0.2 * 1.5, 1e-15);
  EXPECT_NEAR(plain.rejected_reward, 0.2 * -3, 1e-15);
  EXPECT_NEAR(plain.margin, 0.2 * 4.5, 1e-15);
  EXPECT_NEAR(plain.loss, -std::log(1 / (1 + std::exp(-0.9))), 1e-15);
  const auto by_token = loss_of({.beta = 4, .length_normalized = true});
  EXPECT_NEAR(by_token.margin, 4 * (1.5 / 5 + 3.0 / 8), 1e-14);
}

TEST(Preferences, AModelThatIsItsReferenceHasTheLossOfAGuess) {
  const auto same = preference_loss({}, kChosen, kRejected, kChosen, kRejected);
  EXPECT_NEAR(same.loss, std::log(2.0), 1e-15);
  EXPECT_EQ(same.margin, 0);
}

TEST(Preferences, DerivativesAreThoseOfTheLoss) {
  constexpr double kStep = 1e-5;
  for (const auto& options :
       {PreferenceOptions{.beta = 0.3}, PreferenceOptions{.beta = 5, .length_normalized = true}}) {
    const auto at = loss_of(options);
    const double
        by_chosen = (loss_of(options, kChosen.log_probability + kStep).loss -
                     loss_of(options, kChosen.log_probability - kStep).loss) /
                    (2 * kStep),
        by_rejected =
            (loss_of(options, kChosen.log_probability, kRejected.log_probability + kStep).loss -
             loss_of(options, kChosen.log_probability, kRejected.log_probability - kStep).loss) /
            (2 * kStep);
    EXPECT_NEAR(at.by_chosen, by_chosen, 1e-9);
    EXPECT_NEAR(at.by_rejected, by_rejected, 1e-9);
    EXPECT_LT(at.by_chosen, 0);
    EXPECT_GT(at.by_rejected, 0);
  }
}

TEST(Preferences, LargeMarginsStayFinite) {
  const auto sure = loss_of({.beta = 1}, 5000, -5000), wrong = loss_of({.beta = 1}, -5000, 5000);
  EXPECT_EQ(sure.loss, 0);
  EXPECT_EQ(sure.by_chosen, 0);
  EXPECT_NEAR(wrong.loss, -wrong.margin, 1e-9);
  EXPECT_NEAR(wrong.by_chosen, -1, 1e-12);
}

TEST(Preferences, MeansAreOverPairs) {
  const std::vector<DocumentScore> scores = {kChosen, kRejected, kRejected, kChosen},
                                   before = {kChosenBefore,
                                             kRejectedBefore,
                                             kRejectedBefore,
                                             kChosenBefore};
  const auto means = preference_means({.beta = 0.2}, scores, before);
  EXPECT_EQ(means.pairs, 2);
  EXPECT_NEAR(means.margin, 0, 1e-15);
  EXPECT_NEAR(means.accuracy, 0.5, 1e-15);
  EXPECT_NEAR(means.loss, (std::log1p(std::exp(-0.9)) + std::log1p(std::exp(0.9))) / 2, 1e-14);
}

// Rounding of either sign, as another batch gives it, is no preference.
TEST(Preferences, AModelThatIsItsOwnReferencePrefersNothing) {
  for (const double rounding : {1e-13, 0.0, -1e-13}) {
    const DocumentScore again{kChosen.log_probability + rounding, kChosen.targets};
    const auto means = preference_means({}, {again, kRejected}, {kChosen, kRejected});
    EXPECT_EQ(means.accuracy, 0) << rounding;
  }
  const DocumentScore better{kChosen.log_probability + 1e-3, kChosen.targets};
  EXPECT_EQ(preference_means({}, {better, kRejected}, {kChosen, kRejected}).accuracy, 1);
}

}  // namespace
}  // namespace braid
