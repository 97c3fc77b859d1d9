#include "report/run_numbers.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "report/comparison.h"
#include "report/metric_name.h"
#include "report/number_text.h"

namespace braid {
namespace {

struct BuiltIn {
  const char* name;
  double Spent::*spent;
  bool until_target;
};

constexpr std::array kSpent = {BuiltIn{"tokens", &Spent::tokens, false},
                               BuiltIn{"flops", &Spent::flops, false},
                               BuiltIn{"seconds", &Spent::seconds, false},
                               BuiltIn{"tokens_to_target", &Spent::tokens, true},
                               BuiltIn{"flops_to_target", &Spent::flops, true},
                               BuiltIn{"seconds_to_target", &Spent::seconds, true}};

// The other columns of comparison.csv and runs.csv.
constexpr std::array kColumns = {"arm",
                                 "run",
                                 "n",
                                 "mean",
                                 "sd",
                                 "low",
                                 "high",
                                 "difference",
                                 "p",
                                 "adjusted_p",
                                 "verdict",
                                 "note",
                                 "seed",
                                 "reached_target",
                                 "state",
                                 "step",
                                 "not_counted"};

std::optional<double> if_finite(std::optional<double> value) {
  return value && std::isfinite(*value) ? value : std::nullopt;
}

std::vector<const RunCurves*> all_runs(const Comparison& comparison) {
  std::vector<const RunCurves*> runs;
  for (const auto& arm : comparison.arms) {
    for (const auto& run : arm.runs) {
      runs.push_back(&run.curves);
    }
  }
  return runs;
}

MetricName metric_of(const Comparison& comparison, const RunNumber& number) {
  auto name = MetricName::of(number.metric);
  name.set = number.set.empty() ? name.set : number.set;
  return name.settled(all_runs(comparison));
}

std::vector<double> values_within(const Series& series,
                                  const RunNumber& number,
                                  const Judge& judge) {
  std::vector<double> values;
  for (std::size_t i = 0; i < series.steps.size(); ++i) {
    const auto step = series.steps[i];
    const bool is_within =
        number.steps.empty() || (step >= number.steps.front() && step <= number.steps.back());
    if (is_within && (!judge.at_step || step <= *judge.at_step)) {
      values.push_back(series.values[i]);
    }
  }
  return values;
}

std::optional<double> taken_of(const std::vector<double>& values, Take take) {
  if (values.empty()) {
    return std::nullopt;
  }
  if (take == Take::kLast) {
    return values.back();
  }
  if (take == Take::kLastTenth) {
    return mean_of_last_tenth(values);
  }
  if (!std::ranges::all_of(values, [](double value) { return std::isfinite(value); })) {
    return std::nullopt;
  }
  return take == Take::kLargest ? std::ranges::max(values) : std::ranges::min(values);
}

// Why an arm's runs lack a number, or "".
void note_what_is_missing(Comparison& comparison, const RunNumber& number, std::size_t index) {
  int64_t counted = 0, having = 0;
  std::string fewer;
  for (const auto& arm : comparison.arms) {
    const auto n = arm.numbers[index].n;
    counted += arm.value.n;
    having += n;
    if (n < arm.value.n) {
      fewer += text(fewer.empty() ? "" : ", ", n, " of ", arm.value.n, " runs of ", arm.name);
    }
  }
  if (counted == 0 || fewer.empty()) {
    return;
  }
  const auto what = text(
      number.metric,
      number.set.empty() ? "" : " on " + number.set,
      number.steps.empty() ? ""
                           : text(" at steps ", number.steps.front(), " to ", number.steps.back()));
  if (having > 0) {
    comparison.notes.push_back(text(number.name, ": ", fewer, " have a finite ", what));
    return;
  }
  const auto name = metric_of(comparison, number);
  const auto nearest = nearest_metric(name, all_runs(comparison));
  comparison.notes.push_back(
      text(number.name,
           ": no run has a finite ",
           what,
           nearest.empty() || nearest == name.key ? "" : "; did you mean '" + nearest + "'?"));
}

void add_number(Comparison& comparison, const RunNumber& number) {
  const auto index = comparison.numbers.size();
  const auto name = metric_of(comparison, number);
  comparison.numbers.push_back(number);
  for (auto& arm : comparison.arms) {
    std::vector<double> values;
    for (auto& run : arm.runs) {
      const auto* series = series_called(run.curves, name, comparison.judge.set);
      auto& value = run.numbers.emplace_back();
      if (series != nullptr) {
        value = if_finite(taken_of(values_within(*series, number, comparison.judge), number.take));
      }
      if (value && run.not_counted.empty()) {
        values.push_back(*value);
      }
    }
    arm.numbers.push_back(summary_of(values));
  }
  note_what_is_missing(comparison, number, index);
}

}  // namespace

void RunNumber::validate(const std::string& path) const {
  if (!steps.empty() && (steps.size() != 2 || steps.front() > steps.back())) {
    throw ConfigError(path + ".steps",
                      "expected [from, to], two steps of which the first is not "
                      "behind the second");
  }
}

RunNumber run_number_of(const std::string& given) {
  const auto equals = given.find('='), colon = given.rfind(':');
  require(equals != std::string::npos && equals > 0 && equals + 1 < given.size() &&
              (colon == std::string::npos || colon > equals + 1),
          given,
          ": expected NAME=METRIC, or NAME=METRIC:TAKE");
  RunNumber number{.name = given.substr(0, equals),
                   .metric = given.substr(equals + 1, colon - equals - 1)};
  if (colon != std::string::npos) {
    auto node = ConfigNode::plain(given.substr(colon + 1));
    node.place = "the command line";
    number.take =
        enum_names(Take{})[read_choice(node, given, config_detail::names_of<Take>())].value;
  }
  return number;
}

void add_numbers(Comparison& comparison, const std::vector<RunNumber>& numbers) {
  for (const auto& number : numbers) {
    require(std::ranges::count(comparison.numbers, number.name, &RunNumber::name) == 0,
            "two numbers are called '",
            number.name,
            "'");
    add_number(comparison, number);
  }
}

std::vector<std::string> built_in_numbers(const std::string& judged_metric) {
  std::vector<std::string> names = {"value"};
  if (judged_metric != "value") {
    names.push_back(judged_metric);
  }
  for (const auto& built_in : kSpent) {
    names.emplace_back(built_in.name);
  }
  return names;
}

void require_own_names(const std::vector<RunNumber>& numbers, const std::string& judged_metric) {
  const auto built_in = built_in_numbers(judged_metric);
  for (const auto& number : numbers) {
    const bool is_taken = std::ranges::count(built_in, number.name) > 0 ||
                          std::ranges::count(kColumns, number.name) > 0;
    if (is_taken) {
      throw ConfigError("numbers." + number.name,
                        "is what every table calls a column of its own; choose another name");
    }
  }
}

std::optional<double> number_of(const Comparison& comparison,
                                const ComparedRun& run,
                                const std::string& name) {
  const auto further = std::ranges::find(comparison.numbers, name, &RunNumber::name);
  if (further != comparison.numbers.end()) {
    return run.numbers[static_cast<std::size_t>(further - comparison.numbers.begin())];
  }
  if (name == "value" || name == comparison.judge.key) {
    return if_finite(run.value);
  }
  const auto built_in =
      std::ranges::find(kSpent, name, [](const BuiltIn& one) { return std::string(one.name); });
  if (built_in == kSpent.end()) {
    return std::nullopt;
  }
  const auto spent = built_in->until_target ? run.target : std::optional(run.spent);
  return spent ? if_finite((*spent).*built_in->spent) : std::nullopt;
}

std::string number_cell(const Arm& arm, std::size_t number) {
  const auto& [n, mean, sd] = arm.numbers[number];
  if (n == 0) {
    return "-";
  }
  return text(number_text(mean),
              n > 1 ? " ± " + number_text(sd, NumberStyle::kPlain, 2) : "",
              n < arm.value.n ? text(n == 1 ? " (1 run)" : text(" (", n, " runs)")) : "");
}

}  // namespace braid
