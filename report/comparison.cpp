#include "report/comparison.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "core/config_value.h"
#include "core/error.h"

namespace braid {
namespace {

std::vector<ConfigDifference> differences_that_count(const ConfigNode& base,
                                                     const ConfigNode& other) {
  auto all = differing_keys(base, other);
  std::erase_if(all, [](const ConfigDifference& d) { return changes_no_result(d.key); });
  return all;
}

std::string value_at(const ConfigNode& config, const std::string& key) {
  const auto* node = node_at(config, key);
  return node == nullptr ? "null" : inline_yaml_text(*node);
}

// "residual" for "model.residual" where no other key ends so.
std::string short_key(const std::string& key, const std::vector<std::string>& all) {
  const auto last = [](const std::string& path) { return path.substr(path.rfind('.') + 1); };
  const auto same = [&](const std::string& other) { return last(other) == last(key); };
  return std::ranges::count_if(all, same) > 1 ? key : last(key);
}

// "quickstart" for "quickstart-seed2".
std::string without_seed(const std::string& name) {
  const auto at = name.rfind("-seed");
  const bool is_seed = at != std::string::npos && at + 5 < name.size() &&
                       name.find_first_not_of("0123456789", at + 5) == std::string::npos;
  return is_seed ? name.substr(0, at) : name;
}

std::string arm_name(const RunCurves& run, const std::vector<std::string>& keys) {
  constexpr std::size_t kLongest = 60;
  std::string name;
  for (const auto& key : keys) {
    name += (name.empty() ? "" : ", ") + short_key(key, keys) + "=" + value_at(run.config, key);
  }
  return name.empty() || name.size() > kLongest ? without_seed(run.name) : name;
}

void require_different_names(std::vector<ArmRuns>& arms) {
  std::map<std::string, int> seen;
  for (auto& arm : arms) {
    if (const int before = seen[arm.name]++; before > 0) {
      arm.name += text(" (", before + 1, ")");
    }
  }
}

// The judged number over a run, as far as it counts.
struct JudgedCurve {
  std::vector<int64_t> steps;
  std::vector<double> values;
};

JudgedCurve judged_curve(const RunCurves& run, const Judge& judge) {
  const auto* series =
      judge.of_validation
          ? run.validation_series(judge.set.empty() ? run.judged_set() : judge.set, judge.key)
          : run.training_series(judge.key);
  JudgedCurve curve;
  for (std::size_t i = 0; series != nullptr && i < series->steps.size(); ++i) {
    if (!judge.at_step || series->steps[i] <= *judge.at_step) {
      curve.steps.push_back(series->steps[i]);
      curve.values.push_back(series->values[i]);
    }
  }
  return curve;
}

double judged_value(const JudgedCurve& curve, const Judge& judge) {
  const auto& values = curve.values;
  if (!judge.of_validation) {
    return mean_of_last_tenth(values);
  }
  if (!judge.best) {
    return values.back();
  }
  return *std::ranges::min_element(values, [&judge](double a, double b) {
    return judge.is_better(a, b) || (std::isnan(b) && !std::isnan(a));
  });
}

std::string why_not_counted(const RunCurves& run, const Judge& judge) {
  if (run.state == "unreadable") {
    return run.problem;
  }
  if (run.state == "failed") {
    return text("failed after step ", run.last_step(), ": ", run.problem);
  }
  if (judge.at_step) {
    return run.last_step() >= *judge.at_step
               ? ""
               : text("has ", run.last_step(), " steps of the ", *judge.at_step, " judged at");
  }
  if (run.state == "stopped" && run.steps.empty()) {
    return "has not begun";
  }
  return run.state == "finished" ? ""
                                 : text(run.state == "running" ? "still running" : "stopped",
                                        " at step ",
                                        run.last_step(),
                                        " of ",
                                        run.max_steps);
}

Spent spent_at(const RunCurves& run, int64_t step) {
  return {run.position(CurveAxis::kTokens, step),
          run.position(CurveAxis::kFlops, step),
          run.position(CurveAxis::kSeconds, step)};
}

// Between the last number before the target and the first behind it, as if on a line.
std::optional<Spent> spent_until(const RunCurves& run,
                                 const JudgedCurve& curve,
                                 const Judge& judge) {
  for (std::size_t i = 0; i < curve.values.size(); ++i) {
    const double value = curve.values[i];
    if (!std::isfinite(value) || judge.is_better(*judge.target, value)) {
      continue;
    }
    const auto there = spent_at(run, curve.steps[i]);
    if (i == 0 || !std::isfinite(curve.values[i - 1])) {
      return there;
    }
    const auto before = spent_at(run, curve.steps[i - 1]);
    const double share = (curve.values[i - 1] - *judge.target) / (curve.values[i - 1] - value);
    const auto between = [share](double a, double b) { return a + share * (b - a); };
    return Spent{between(before.tokens, there.tokens),
                 between(before.flops, there.flops),
                 between(before.seconds, there.seconds)};
  }
  return std::nullopt;
}

ComparedRun compared(RunCurves curves, const Judge& judge) {
  ComparedRun run{.curves = std::move(curves)};
  run.not_counted = why_not_counted(run.curves, judge);
  const int64_t last =
      judge.at_step ? std::min(*judge.at_step, run.curves.last_step()) : run.curves.last_step();
  run.spent = spent_at(run.curves, last);
  const auto curve = judged_curve(run.curves, judge);
  if (!curve.values.empty()) {
    run.value = judged_value(curve, judge);
  }
  if (run.not_counted.empty()) {
    run.not_counted = !run.value                  ? "has no " + judge.key + " to judge by"
                      : std::isfinite(*run.value) ? ""
                                                  : "its " + judge.key + " is not finite";
  }
  return run;
}

template <class Number>
std::vector<double> counted(const Arm& arm, const Number& number) {
  std::vector<double> values;
  for (const auto* run : arm.counted_runs()) {
    if (const std::optional<double> value = number(*run)) {
      values.push_back(*value);
    }
  }
  return values;
}

void summarize(Arm& arm) {
  arm.value = summary_of(counted(arm, [](const ComparedRun& run) { return run.value; }));
  const auto of = [&arm](double Spent::*what, bool until_target) {
    return summary_of(counted(arm, [=](const ComparedRun& run) {
      const auto& spent = until_target ? run.target : std::optional(run.spent);
      return spent ? std::optional((*spent).*what) : std::nullopt;
    }));
  };
  arm.spent = {of(&Spent::tokens, false), of(&Spent::flops, false), of(&Spent::seconds, false)};
  arm.target = {of(&Spent::tokens, true), of(&Spent::flops, true), of(&Spent::seconds, true)};
}

// Values by seed; nothing where a seed is there twice, since then nobody knows which run belongs
// to which.
std::optional<std::map<int64_t, double>> by_seed(const Arm& arm) {
  std::map<int64_t, double> values;
  for (const auto& run : arm.runs) {
    if (run.not_counted.empty() && !values.emplace(run.curves.seed, *run.value).second) {
      return std::nullopt;
    }
  }
  return values;
}

std::optional<Difference> difference_of(const Arm& arm, const Arm& base) {
  if (arm.value.n == 0 || base.value.n == 0) {
    return std::nullopt;
  }
  if (const auto ours = by_seed(arm), theirs = by_seed(base); ours && theirs) {
    std::vector<double> here, there;
    for (const auto& [seed, value] : *ours) {
      if (const auto same = theirs->find(seed); same != theirs->end()) {
        here.push_back(value);
        there.push_back(same->second);
      }
    }
    const bool all_single = arm.value.n == 1 && base.value.n == 1;
    if (here.size() > 1 || (here.size() == 1 && all_single)) {
      return paired_difference(here, there);
    }
  }
  const auto value = [](const ComparedRun& run) { return run.value; };
  return welch_difference(counted(arm, value), counted(base, value));
}

std::string number(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.4g", value);
  return buffer;
}

std::string reason_of(const Arm& arm, const Arm& base, std::size_t tests) {
  if (arm.value.n == 0) {
    return "no run of this arm counts";
  }
  if (base.value.n == 0) {
    return "no run of the base arm counts";
  }
  const auto& difference = *arm.difference;
  if (!difference.t) {
    return "one run shows no spread over seeds; give both arms two seeds or more";
  }
  return text("95 % interval ",
              number(difference.t->low),
              " to ",
              number(difference.t->high),
              difference.paired ? text(", paired over ", difference.n, " seeds")
                                : std::string(", without pairs (Welch)"),
              "; p = ",
              number(difference.p),
              tests > 1
                  ? text(", ", number(arm.adjusted_p), " for ", tests, " arms together (Holm)")
                  : std::string());
}

void judge_arms(Comparison& comparison) {
  auto& arms = comparison.arms;
  const auto& base = arms[comparison.base];
  std::vector<std::size_t> tested;
  std::vector<double> p;
  for (std::size_t i = 0; i < arms.size(); ++i) {
    if (i == comparison.base) {
      continue;
    }
    arms[i].difference = difference_of(arms[i], base);
    if (arms[i].difference && arms[i].difference->t) {
      tested.push_back(i);
      p.push_back(arms[i].difference->p);
    }
  }
  const auto adjusted = holm_adjusted(p);
  for (std::size_t i = 0; i < tested.size(); ++i) {
    auto& arm = arms[tested[i]];
    arm.adjusted_p = adjusted[i];
    arm.verdict = arm.adjusted_p >= kSignificance                       ? Verdict::kNoDifference
                  : comparison.judge.is_better(arm.difference->mean, 0) ? Verdict::kBetter
                                                                        : Verdict::kWorse;
  }
  for (auto& arm : arms) {
    arm.reason = &arm == &base ? "" : reason_of(arm, base, tested.size());
  }
  arms[comparison.base].verdict = Verdict::kBase;
}

std::size_t index_of_base(const std::vector<Arm>& arms, const std::string& base) {
  if (base.empty()) {
    return 0;
  }
  const auto found = std::ranges::find(arms, base, &Arm::name);
  std::vector<std::string> names;
  std::ranges::transform(arms, std::back_inserter(names), &Arm::name);
  require(found != arms.end(),
          "there is no arm '",
          base,
          "' to compare with; the arms are: ",
          joined(names, " | "));
  return static_cast<std::size_t>(found - arms.begin());
}

// What the runs can be judged by, where `judge` leaves it open.
Judge completed(Judge judge, const std::vector<ArmRuns>& arms, std::vector<std::string>& notes) {
  std::set<std::string> sets, keys, training;
  for (const auto& arm : arms) {
    for (const auto& run : arm.runs) {
      for (const auto& validation : run.validation) {
        sets.insert(validation.set);
        for (const auto& series : validation.series) {
          keys.insert(series.key);
        }
      }
      for (const auto& series : run.training) {
        training.insert(series.key);
      }
    }
  }
  require(judge.set.empty() || sets.contains(judge.set),
          "no run was validated on a set '",
          judge.set,
          "'; the sets are: ",
          joined({sets.begin(), sets.end()}));
  judge.of_validation = !judge.set.empty() || keys.contains(judge.key);
  require(judge.of_validation || training.contains(judge.key) || (keys.empty() && training.empty()),
          "no run has '",
          judge.key,
          "' to be judged by; there are: ",
          joined({keys.begin(), keys.end()}),
          keys.empty() ? "" : " of validation, ",
          joined({training.begin(), training.end()}));
  if (!judge.of_validation && judge.key == "loss") {
    notes.emplace_back(
        "nothing was validated: runs are judged by the training loss of their last tenth, which "
        "says less than a validation loss");
  }
  if (judge.of_validation && judge.set.empty()) {
    std::set<std::string> judged;
    for (const auto& arm : arms) {
      for (const auto& run : arm.runs) {
        if (!run.validation.empty()) {
          judged.insert(run.judged_set());
        }
      }
    }
    if (judged.size() == 1) {
      judge.set = *judged.begin();
    } else if (judged.size() > 1) {
      notes.push_back("runs are judged by different validation sets: " +
                      joined({judged.begin(), judged.end()}));
    }
  }
  return judge;
}

void find_target(Comparison& comparison) {
  auto& judge = comparison.judge;
  if (judge.target_from_base) {
    judge.target.reset();
    for (const auto& run : comparison.arms[comparison.base].runs) {
      if (run.not_counted.empty() &&
          (!judge.target || judge.is_better(*judge.target, *run.value))) {
        judge.target = run.value;
      }
    }
  }
  for (auto& arm : comparison.arms) {
    for (auto& run : arm.runs) {
      if (judge.target && run.not_counted.empty()) {
        run.target = spent_until(run.curves, judged_curve(run.curves, judge), judge);
      }
    }
  }
}

}  // namespace

bool changes_no_result(const std::string& key) {
  static constexpr std::array kKeys = {
      "run.name", "run.output_dir", "run.seed", "train.threads", "parallel.timeout_seconds"};
  return std::ranges::find(kKeys, key) != kKeys.end() || key.starts_with("logging.") ||
         (key.starts_with("checkpoint.") && key != "checkpoint.best_by");
}

bool higher_is_better(const std::string& key) {
  return std::ranges::any_of(std::array{"accuracy", "margin", "recall"}, [&key](const char* word) {
    return key.find(word) != std::string::npos;
  });
}

std::vector<const ComparedRun*> Arm::counted_runs() const {
  std::vector<const ComparedRun*> counted;
  for (const auto& run : runs) {
    if (run.not_counted.empty()) {
      counted.push_back(&run);
    }
  }
  return counted;
}

std::vector<const RunCurves*> Arm::counted_curves() const {
  std::vector<const RunCurves*> curves;
  for (const auto* run : counted_runs()) {
    curves.push_back(&run->curves);
  }
  return curves;
}

std::string Arm::verdict_text() const {
  switch (verdict) {
    case Verdict::kBase:
      return "base";
    case Verdict::kBetter:
      return "better";
    case Verdict::kWorse:
      return "worse";
    case Verdict::kNoDifference:
      return text("no difference seen at n = ", difference->n);
    case Verdict::kNotJudged:
      break;
  }
  return "not judged";
}

std::vector<ArmRuns> arms_of(std::vector<RunCurves> runs,
                             const std::vector<std::string>& by,
                             std::vector<std::string>& notes) {
  const auto belongs = [&by](const RunCurves& a, const RunCurves& b) {
    const auto agrees = [&](const std::string& key) {
      return value_at(a.config, key) == value_at(b.config, key);
    };
    return by.empty() ? differences_that_count(a.config, b.config).empty()
                      : std::ranges::all_of(by, agrees);
  };
  std::vector<ArmRuns> arms;
  for (auto& run : runs) {
    const auto its = std::ranges::find_if(
        arms, [&](const ArmRuns& arm) { return belongs(arm.runs.front(), run); });
    (its == arms.end() ? arms.emplace_back() : *its).runs.push_back(std::move(run));
  }
  auto keys = by;
  for (std::size_t i = 1; by.empty() && i < arms.size(); ++i) {
    const auto& first = arms.front().runs.front().config;
    for (const auto& d : differences_that_count(first, arms[i].runs.front().config)) {
      if (std::ranges::find(keys, d.key) == keys.end()) {
        keys.push_back(d.key);
      }
    }
  }
  for (auto& arm : arms) {
    arm.name = arm_name(arm.runs.front(), keys);
    std::set<std::string> varying;
    for (const auto& run : arm.runs) {
      for (const auto& d : differences_that_count(arm.runs.front().config, run.config)) {
        varying.insert(d.key);
      }
    }
    if (!varying.empty()) {
      notes.push_back(
          text("runs of ", arm.name, " differ in ", joined({varying.begin(), varying.end()})));
    }
  }
  require_different_names(arms);
  return arms;
}

Comparison compare(std::vector<ArmRuns> arms,
                   const Judge& judge,
                   const std::string& base,
                   const std::string& title) {
  require(!arms.empty(), "there are no runs to compare");
  Comparison comparison{.title = title};
  comparison.judge = completed(judge, arms, comparison.notes);
  for (auto& [name, runs, note] : arms) {
    auto& arm = comparison.arms.emplace_back(Arm{.name = name, .note = note});
    std::ranges::stable_sort(runs, {}, &RunCurves::seed);
    for (auto& run : runs) {
      arm.runs.push_back(compared(std::move(run), comparison.judge));
    }
  }
  comparison.base = index_of_base(comparison.arms, base);
  const auto& base_arm = comparison.arms[comparison.base];
  for (auto& arm : comparison.arms) {
    if (&arm != &base_arm && !arm.runs.empty() && !base_arm.runs.empty()) {
      arm.differences = differences_that_count(base_arm.runs.front().curves.config,
                                               arm.runs.front().curves.config);
    }
  }
  find_target(comparison);
  for (auto& arm : comparison.arms) {
    summarize(arm);
  }
  judge_arms(comparison);
  return comparison;
}

}  // namespace braid
