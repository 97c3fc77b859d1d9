#include "report/criteria.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/nearest.h"
#include "report/comparison.h"
#include "report/number_text.h"
#include "report/run_numbers.h"

namespace braid {
namespace {

std::string path_of(std::size_t i, const char* key) {
  return text("criteria[", i, "]", key);
}

// For a name that is none of `names`: the nearest one, or all.
std::string expected_of(const std::string& word, const std::vector<std::string>& names) {
  const auto nearest = nearest_name(word, names);
  return nearest.empty() ? "expected one of: " + joined(names, " | ")
                         : "did you mean '" + nearest + "'?";
}

void require_verdict_alone(const Criterion& c, std::size_t i) {
  for (const auto& [key, is_there] : {std::pair{".number", !c.number.empty()},
                                      std::pair{".over", !c.over.empty()},
                                      std::pair{".minus", !c.minus.empty()},
                                      std::pair{".above", c.above.has_value()},
                                      std::pair{".below", c.below.has_value()}}) {
    if (is_there) {
      throw ConfigError(path_of(i, key), "stands beside verdict; a criterion has one or the other");
    }
  }
}

void require_bounds(const Criterion& c, std::size_t i) {
  if (!c.above && !c.below) {
    throw ConfigError(path_of(i, ""), "lacks above or below, or both");
  }
  if (c.above && c.below && *c.above >= *c.below) {
    throw ConfigError(path_of(i, ".below"), "is not more than above; nothing lies between them");
  }
}

bool is_within(const Criterion& c, double value) {
  return (!c.above || value > *c.above) && (!c.below || value < *c.below);
}

/// What a criterion looks at, of the values of its arm and of those that it names.
double looked_at(double arm, std::optional<double> over, std::optional<double> minus) {
  const double less = minus.value_or(0);
  return over ? (arm - less) / (*over - less) : arm - less;
}

/// One number of the runs of an arm that count.
struct ArmValues {
  std::vector<double> all;
  std::map<int64_t, double> by_seed;
  bool has_seeds = true;  ///< false where a seed is there twice
  std::string lacking;    ///< why its mean is not known
};

ArmValues values_of(const Comparison& comparison, const Arm& arm, const std::string& number) {
  ArmValues values;
  const auto runs = arm.counted_runs();
  for (const auto* run : runs) {
    if (const auto value = number_of(comparison, *run, number)) {
      values.all.push_back(*value);
      values.has_seeds &= values.by_seed.emplace(run->curves.seed, *value).second;
    }
  }
  if (runs.empty()) {
    values.lacking = text("no run of ", arm.name, " counts");
  } else if (values.all.size() < runs.size()) {
    values.lacking = values.all.empty() ? text("no run of ", arm.name, " has a ", number)
                                        : text("only ",
                                               values.all.size(),
                                               " of ",
                                               runs.size(),
                                               " runs of ",
                                               arm.name,
                                               " have a ",
                                               number);
  }
  return values;
}

class Checker {
 public:
  Checker(const Comparison& comparison, const Criterion& criterion)
      : comparison_(comparison), checked_{.criterion = criterion} {}

  CheckedCriterion check() {
    const auto& c = checked_.criterion;
    const auto* arm = arm_called(c.arm);
    const auto* over = c.over.empty() ? nullptr : arm_called(c.over);
    const auto* minus = c.minus.empty() ? nullptr : arm_called(c.minus);
    if (!checked_.reason.empty()) {
      return checked_;
    }
    for (const auto* one : {arm, over, minus}) {
      if (one != nullptr) {
        checked_.counted += static_cast<int64_t>(one->counted_runs().size());
        checked_.runs += static_cast<int64_t>(one->runs.size());
      }
    }
    if (c.verdict != ExpectedVerdict::kNone) {
      check_verdict(*arm);
    } else {
      check_number(*arm, over, minus);
    }
    return checked_;
  }

 private:
  const Arm* arm_called(const std::string& name) {
    const auto found = std::ranges::find(comparison_.arms, name, &Arm::name);
    if (found == comparison_.arms.end()) {
      checked_.reason = "there is no arm " + name;
      return nullptr;
    }
    return &*found;
  }

  void check_verdict(const Arm& arm) {
    const auto expected = checked_.criterion.verdict;
    checked_.verdict = arm.verdict_text();
    if (arm.verdict == Verdict::kNotJudged || arm.verdict == Verdict::kBase) {
      checked_.reason = arm.verdict == Verdict::kBase ? arm.name + " is the base" : arm.reason;
      return;
    }
    const bool holds =
        (expected == ExpectedVerdict::kBetter && arm.verdict == Verdict::kBetter) ||
        (expected == ExpectedVerdict::kWorse && arm.verdict == Verdict::kWorse) ||
        (expected == ExpectedVerdict::kNoDifference && arm.verdict == Verdict::kNoDifference);
    checked_.outcome = holds ? Outcome::kHolds : Outcome::kFails;
  }

  /// Of an arm that the criterion does not name: nullopt.
  std::optional<ArmValues> values_of_other(const Arm* arm) {
    if (arm == nullptr) {
      return std::nullopt;
    }
    auto values = values_of(comparison_, *arm, checked_.criterion.number);
    if (checked_.reason.empty()) {
      checked_.reason = values.lacking;
    }
    return values;
  }

  void check_number(const Arm& arm, const Arm* over_arm, const Arm* minus_arm) {
    const auto ours = values_of(comparison_, arm, checked_.criterion.number);
    checked_.reason = ours.lacking;
    const auto over = values_of_other(over_arm), minus = values_of_other(minus_arm);
    if (!checked_.reason.empty()) {
      return;
    }
    const auto mean = [](const std::optional<ArmValues>& values) {
      return values ? std::optional(summary_of(values->all).mean) : std::nullopt;
    };
    const double value = looked_at(summary_of(ours.all).mean, mean(over), mean(minus));
    if (!std::isfinite(value)) {
      checked_.reason =
          minus ? text("the means of ", over_arm->name, " and ", minus_arm->name, " are equal")
                : text("the mean of ", over_arm->name, " is 0");
      return;
    }
    checked_.value = value;
    checked_.outcome = is_within(checked_.criterion, value) ? Outcome::kHolds : Outcome::kFails;
    count_seeds(ours, over, minus);
  }

  /// Of the seeds that all these arms have.
  void count_seeds(const ArmValues& ours,
                   const std::optional<ArmValues>& over,
                   const std::optional<ArmValues>& minus) {
    for (const auto* other : {&over, &minus}) {
      if (!ours.has_seeds || (*other && !(*other)->has_seeds)) {
        return;
      }
    }
    const auto has = [](const std::optional<ArmValues>& values, int64_t seed) {
      return !values || values->by_seed.contains(seed);
    };
    const auto of_seed = [](const std::optional<ArmValues>& values, int64_t seed) {
      return values ? std::optional(values->by_seed.at(seed)) : std::nullopt;
    };
    for (const auto& [seed, value] : ours.by_seed) {
      if (has(over, seed) && has(minus, seed)) {
        const double seen = looked_at(value, of_seed(over, seed), of_seed(minus, seed));
        ++checked_.seeds;
        checked_.seeds_holding += is_within(checked_.criterion, seen) ? 1 : 0;
      }
    }
  }

  const Comparison& comparison_;
  CheckedCriterion checked_;
};

std::string bounds_of(const Criterion& c) {
  return c.above && c.below
             ? text("between ", number_text(*c.above), " and ", number_text(*c.below))
         : c.above ? "above " + number_text(*c.above)
                   : "below " + number_text(*c.below);
}

std::string verdict_name(ExpectedVerdict verdict) {
  return verdict == ExpectedVerdict::kBetter  ? "better"
         : verdict == ExpectedVerdict::kWorse ? "worse"
                                              : "no difference";
}

}  // namespace

void require_sound(const std::vector<Criterion>& criteria,
                   const std::vector<std::string>& numbers,
                   const std::string& judged_metric,
                   bool has_target) {
  auto names = numbers;
  const auto built_in = built_in_numbers(judged_metric);
  names.insert(names.end(), built_in.begin(), built_in.end());
  for (std::size_t i = 0; i < criteria.size(); ++i) {
    const auto& c = criteria[i];
    if (c.verdict != ExpectedVerdict::kNone) {
      require_verdict_alone(c, i);
      continue;
    }
    if (c.number.empty()) {
      throw ConfigError(path_of(i, ""), "lacks a number with its bounds, or a verdict");
    }
    if (std::ranges::count(names, c.number) == 0) {
      throw ConfigError(
          path_of(i, ".number"),
          text("there is no number '", c.number, "'; ", expected_of(c.number, names)));
    }
    if (!has_target && c.number.ends_with("_to_target") &&
        std::ranges::count(numbers, c.number) == 0) {
      throw ConfigError(path_of(i, ".number"), c.number + " needs a judge.target");
    }
    require_bounds(c, i);
  }
}

void require_arms_of(const std::vector<Criterion>& criteria,
                     const std::vector<std::string>& arms,
                     const std::string& base) {
  for (std::size_t i = 0; i < criteria.size(); ++i) {
    const auto& c = criteria[i];
    for (const auto& [key, name] :
         {std::pair{".arm", &c.arm}, std::pair{".over", &c.over}, std::pair{".minus", &c.minus}}) {
      if (!name->empty() && std::ranges::count(arms, *name) == 0) {
        throw ConfigError(path_of(i, key),
                          text("there is no arm '", *name, "'; ", expected_of(*name, arms)));
      }
    }
    for (const auto& [key, name] : {std::pair{".over", &c.over}, std::pair{".minus", &c.minus}}) {
      if (*name == c.arm) {
        throw ConfigError(path_of(i, key), "is the arm itself");
      }
    }
    if (!c.over.empty() && c.over == c.minus) {
      throw ConfigError(path_of(i, ".over"), "is the arm of minus; the two differ by nothing");
    }
    if (c.verdict != ExpectedVerdict::kNone && c.arm == base) {
      throw ConfigError(path_of(i, ".arm"), base + " is the base arm, which gets no verdict");
    }
  }
}

void check_criteria(Comparison& comparison, const std::vector<Criterion>& criteria) {
  for (const auto& criterion : criteria) {
    comparison.criteria.push_back(Checker(comparison, criterion).check());
  }
}

std::string criterion_text(const CheckedCriterion& checked) {
  const auto& c = checked.criterion;
  if (c.verdict != ExpectedVerdict::kNone) {
    return text("verdict of ",
                c.arm,
                checked.verdict.empty() ? "" : ": " + checked.verdict,
                ", expected ",
                verdict_name(c.verdict));
  }
  const auto less = c.minus.empty() ? "" : " minus " + c.minus;
  const auto in_brackets = [&](const std::string& arm) { return "(" + arm + less + ")"; };
  return text(c.number,
              " of ",
              c.over.empty()    ? c.arm + less
              : c.minus.empty() ? c.arm + " over " + c.over
                                : in_brackets(c.arm) + " over " + in_brackets(c.over),
              checked.value ? ": " + number_text(*checked.value) : "",
              ", ",
              bounds_of(c));
}

std::string outcome_text(const CheckedCriterion& checked) {
  if (checked.outcome == Outcome::kNotKnown) {
    return "not known: " + checked.reason;
  }
  std::vector<std::string> more;
  if (checked.seeds > 1) {
    more.push_back(text("in ", checked.seeds_holding, " of ", checked.seeds, " seeds"));
  }
  if (checked.counted < checked.runs) {
    more.push_back(text(checked.counted, " of ", checked.runs, " runs count"));
  }
  return text(checked.outcome == Outcome::kHolds ? "holds" : "does not hold",
              more.empty() ? "" : " (" + joined(more, "; ") + ")");
}

std::string criteria_summary(const Comparison& comparison) {
  const auto count = [&comparison](Outcome outcome) {
    return std::ranges::count(comparison.criteria, outcome, &CheckedCriterion::outcome);
  };
  const auto all = comparison.criteria.size();
  const auto unknown = count(Outcome::kNotKnown);
  return text(count(Outcome::kHolds),
              " of ",
              all,
              all == 1 ? " criterion holds" : " criteria hold",
              unknown == 0 ? "" : text(", ", unknown, unknown == 1 ? " is" : " are", " not known"));
}

}  // namespace braid
