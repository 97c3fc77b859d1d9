#pragma once
// What was expected of a comparison before it was made, and whether it was found.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"

namespace braid {

struct Comparison;

enum class ExpectedVerdict { kNone, kBetter, kWorse, kNoDifference };
inline auto enum_names(ExpectedVerdict) {
  return std::array{EnumName{"none", ExpectedVerdict::kNone},
                    EnumName{"better", ExpectedVerdict::kBetter},
                    EnumName{"worse", ExpectedVerdict::kWorse},
                    EnumName{"no-difference", ExpectedVerdict::kNoDifference}};
}

/// A number of an arm, alone or beside another arm's, within bounds; or the arm's verdict.
struct Criterion {
  std::string arm = {};
  std::string number = {};  ///< of `numbers`, or built in
  std::string over = {}, minus = {};
  std::optional<double> above = {}, below = {};
  ExpectedVerdict verdict = ExpectedVerdict::kNone;

  template <class Visitor>
  static void fields(Visitor& v) {
    using C = Criterion;
    v("arm", &C::arm, "the arm that is looked at", required);
    v("number",
      &C::number,
      "a name of numbers; or value, the judge's metric, tokens, flops, seconds, and these until "
      "the target: tokens_to_target, ...");
    v("over", &C::over, "an arm: the ratio of the two arms' means is looked at");
    v("minus",
      &C::minus,
      "an arm: the difference of the two arms' means is looked at; with over, of both to this one, "
      "(arm - minus) / (over - minus): the share of a gap that is closed");
    v("above", &C::above, "holds where it is above this");
    v("below", &C::below, "holds where it is below this; with above, between the two");
    v("verdict", &C::verdict, "instead of a number: the arm's verdict against the base arm");
  }
};

/// Throws ConfigError for criteria that cannot be: of numbers that no table with this judge has,
/// without bounds. `numbers`: names of further numbers.
void require_sound(const std::vector<Criterion>& criteria,
                   const std::vector<std::string>& numbers,
                   const std::string& judged_metric,
                   bool has_target);

/// Throws ConfigError for an arm that does not exist, and for the verdict of the base arm.
void require_arms_of(const std::vector<Criterion>& criteria,
                     const std::vector<std::string>& arms,
                     const std::string& base);

enum class Outcome { kHolds, kFails, kNotKnown };

struct CheckedCriterion {
  Criterion criterion;
  Outcome outcome = Outcome::kNotKnown;
  std::optional<double> value = {};  ///< what was found, of a number
  std::string verdict = {};          ///< the same of a verdict
  std::string reason = {};           ///< of what is not known
  int64_t seeds = 0;                 ///< in which it can be said; 0 for verdicts
  int64_t seeds_holding = 0;
  int64_t counted = 0, runs = 0;  ///< of both arms
};

/// Checks criteria against a comparison that has its numbers, and adds them to it. Means over the
/// runs that count are judged; seed by seed where both arms have the same.
void check_criteria(Comparison& comparison, const std::vector<Criterion>& criteria);

/// "gain of hc over mhc: 19.6, above 3".
std::string criterion_text(const CheckedCriterion& checked);
/// "holds (in 3 of 3 seeds)", "does not hold", "not known: no run of hc counts".
std::string outcome_text(const CheckedCriterion& checked);
/// "4 of 5 criteria hold, 1 is not known".
std::string criteria_summary(const Comparison& comparison);

}  // namespace braid
