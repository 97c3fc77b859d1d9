// A comparison as Markdown, CSV and JSON.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include <nlohmann/json.hpp>

#include "core/config_value.h"
#include "core/error.h"
#include "report/comparison.h"
#include "run/console.h"
#include "run/table.h"

namespace braid {
namespace {

using nlohmann::ordered_json;

std::string decimals(double value, const char* format = "%.4f") {
  if (!std::isfinite(value)) {
    return "-";
  }
  char buffer[48];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

std::string amount(double value) {
  return std::isfinite(value) ? scaled_text(value) : "-";
}

std::string seconds(double value) {
  return std::isfinite(value) ? duration_text(value) : "-";
}

std::string mean_and_sd(const Summary& summary) {
  return summary.n == 0   ? "-"
         : summary.n == 1 ? decimals(summary.mean)
                          : decimals(summary.mean) + " ± " + decimals(summary.sd);
}

// "|", and line breaks of a message, would end a cell.
std::string cell(std::string text) {
  for (std::size_t at = 0; (at = text.find_first_of("|\n", at)) != std::string::npos; at += 2) {
    text.replace(at, 1, text[at] == '|' ? "\\|" : "  ");
  }
  return text;
}

std::size_t characters(const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) >> 6) != 2; }));
}

/// A table in Markdown whose columns are aligned as text, too. Titles that begin with '>' have
/// their cells at the right.
class MarkdownTable {
 public:
  explicit MarkdownTable(std::vector<std::string> titles) {
    for (auto& title : titles) {
      right_.push_back(title.starts_with('>'));
      title.erase(0, right_.back() ? 1 : 0);
    }
    rows_.push_back(std::move(titles));
  }

  void add(std::vector<std::string> row) {
    std::ranges::transform(row, row.begin(), cell);
    rows_.push_back(std::move(row));
  }

  std::string text() const {
    std::string result;
    std::vector<std::size_t> widths(right_.size(), 3);
    for (const auto& row : rows_) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        widths[i] = std::max(widths[i], characters(row[i]));
      }
    }
    for (const auto& row : rows_) {
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string space(widths[i] - characters(row[i]), ' ');
        result += (i == 0 ? "| " : " | ") + (right_[i] ? space + row[i] : row[i] + space);
      }
      result += " |\n";
      if (&row == &rows_.front()) {
        for (std::size_t i = 0; i < row.size(); ++i) {
          result += "|";
          result += std::string(widths[i] + 1, '-');
          result += right_[i] ? ":" : "-";
        }
        result += "|\n";
      }
    }
    return result;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<bool> right_;
};

}  // namespace

std::string judged_text(const Judge& judge) {
  const auto what = judge.of_validation
                        ? text(judge.best ? "the best validation " : "the validation ", judge.key)
                        : text("the training ", judge.key, " of the last tenth");
  return text(what,
              judge.of_validation && !judge.set.empty() ? " on " + judge.set : "",
              judge.at_step                        ? text(" until step ", *judge.at_step)
              : judge.of_validation && !judge.best ? " at the end"
                                                   : "",
              judge.higher_is_better ? "; higher is better" : "; lower is better");
}

std::vector<std::string> comparison_titles(const Comparison& comparison) {
  std::vector<std::string> titles = {"arm",
                                     ">n",
                                     ">" + comparison.judge.key,
                                     ">difference",
                                     ">95 % interval",
                                     ">p",
                                     "verdict",
                                     ">tokens",
                                     ">FLOPs",
                                     ">time"};
  if (comparison.judge.target) {
    const auto to = " to " + decimals(*comparison.judge.target);
    titles.insert(titles.end(), {">tokens" + to, ">FLOPs" + to, ">reached"});
  }
  for (const auto& number : comparison.numbers) {
    titles.push_back(">" + number.name);
  }
  return titles;
}

std::vector<std::string> comparison_row(const Comparison& comparison, const Arm& arm) {
  const auto& d = arm.difference;
  std::vector<std::string> row = {
      arm.name,
      std::to_string(arm.value.n),
      mean_and_sd(arm.value),
      d ? decimals(d->mean, "%+.3g") : "-",
      d && d->t ? decimals(d->t->low, "%+.3g") + " to " + decimals(d->t->high, "%+.3g") : "-",
      d && d->t ? decimals(arm.adjusted_p, arm.adjusted_p < 0.001 ? "%.0e" : "%.3f") : "-",
      arm.verdict_text(),
      amount(arm.spent.tokens.mean),
      amount(arm.spent.flops.mean),
      seconds(arm.spent.seconds.mean)};
  if (comparison.judge.target) {
    row.insert(row.end(),
               {amount(arm.target.tokens.mean),
                amount(arm.target.flops.mean),
                arm.value.n > 0 ? text(arm.target.tokens.n, " of ", arm.value.n) : "-"});
  }
  for (std::size_t i = 0; i < comparison.numbers.size(); ++i) {
    row.push_back(number_cell(arm, i));
  }
  return row;
}

namespace {

// What was meant and what is behind each verdict, a line each.
std::string explanation(const Comparison& comparison) {
  const auto& base = comparison.arms[comparison.base];
  std::string result =
      text("Judged by ",
           judged_text(comparison.judge),
           ". Means ± standard deviations over n seeds; differences to ",
           base.name,
           ", with Student's 95 % intervals. An arm is better or worse where p, corrected for the "
           "number of arms (Holm), is below ",
           kSignificance,
           ".\n");
  for (const auto& arm : comparison.arms) {
    std::vector<std::string> parts;
    if (!arm.note.empty()) {
      parts.push_back(arm.note);
    }
    for (const auto& [key, before, now] : arm.differences) {
      parts.push_back(text(key, " ", before, " → ", now));
    }
    if (!arm.reason.empty()) {
      parts.push_back(arm.reason);
    }
    result += parts.empty() ? "" : text("\n- ", arm.name, ": ", joined(parts, "; "));
  }
  std::string notes;
  for (const auto& arm : comparison.arms) {
    for (const auto& run : arm.runs) {
      if (!run.not_counted.empty()) {
        notes +=
            text("\n- ", run.curves.name, " (", arm.name, ") is not counted: ", run.not_counted);
      } else if (!run.curves.problem.empty()) {
        notes += text("\n- ", run.curves.name, " (", arm.name, "): ", run.curves.problem);
      }
    }
  }
  for (const auto& note : comparison.notes) {
    notes += "\n- " + note;
  }
  return result + (notes.empty() ? "" : "\n\nNotes:\n" + notes) + "\n";
}

// A line for each criterion, and how many hold.
std::string criteria_section(const Comparison& comparison) {
  if (comparison.criteria.empty()) {
    return "";
  }
  std::string lines;
  for (const auto& checked : comparison.criteria) {
    lines += text("- ", criterion_text(checked), ": ", outcome_text(checked), "\n");
  }
  return "\n## Criteria\n\n" + lines + "\n" + criteria_summary(comparison) + ".\n";
}

// A field of a CSV (RFC 4180).
std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) {
    return text;
  }
  std::string quoted = "\"";
  for (const char c : text) {
    quoted += c == '"' ? "\"\"" : std::string(1, c);
  }
  return quoted + "\"";
}

std::string csv_number(double value) {
  return std::isfinite(value) ? real_text(value) : "";
}

std::string csv_number(const std::optional<double>& value) {
  return value ? csv_number(*value) : "";
}

// Titles and what stands below each.
template <class Row>
struct CsvColumn {
  std::string title;
  std::function<std::string(const Row&)> field;
};

template <class Row>
void add_csv_line(std::string& csv, const std::vector<CsvColumn<Row>>& columns, const Row* row) {
  for (std::size_t i = 0; i < columns.size(); ++i) {
    csv += i > 0 ? "," : "";
    csv += csv_field(row ? columns[i].field(*row) : columns[i].title);
  }
  csv += "\n";
}

std::optional<double> bound(const Arm& arm, double Interval::*end) {
  return arm.difference && arm.difference->t ? std::optional((*arm.difference->t).*end)
                                             : std::nullopt;
}

template <class Value>
ordered_json json_or_null(const std::optional<Value>& value) {
  return value ? ordered_json(*value) : ordered_json();
}

ordered_json json_of(const Summary& summary) {
  return {{"n", summary.n}, {"mean", summary.mean}, {"sd", summary.sd}};
}

ordered_json json_of(const SpentSummary& spent) {
  return {{"tokens", json_of(spent.tokens)},
          {"flops", json_of(spent.flops)},
          {"seconds", json_of(spent.seconds)}};
}

ordered_json json_of(const Spent& spent) {
  return {{"tokens", spent.tokens}, {"flops", spent.flops}, {"seconds", spent.seconds}};
}

ordered_json json_of(const std::optional<Interval>& interval) {
  return interval ? ordered_json{interval->low, interval->high} : ordered_json();
}

ordered_json json_of(const Difference& difference) {
  return {{"paired", difference.paired},
          {"n", difference.n},
          {"mean", difference.mean},
          {"sd", difference.sd},
          {"degrees_of_freedom", difference.degrees},
          {"interval", json_of(difference.t)},
          {"bootstrap_interval", json_of(difference.bootstrap)},
          {"p", difference.p}};
}

ordered_json json_of(const CheckedCriterion& checked) {
  const auto& c = checked.criterion;
  const auto name_or_null = [](const std::string& name) {
    return name.empty() ? ordered_json() : ordered_json(name);
  };
  const bool of_verdict = c.verdict != ExpectedVerdict::kNone;
  return {{"arm", c.arm},
          {"number", name_or_null(c.number)},
          {"over", name_or_null(c.over)},
          {"minus", name_or_null(c.minus)},
          {"above", json_or_null(c.above)},
          {"below", json_or_null(c.below)},
          {"verdict", name_or_null(of_verdict ? enum_name(c.verdict) : "")},
          {"found", of_verdict ? name_or_null(checked.verdict) : json_or_null(checked.value)},
          {"outcome",
           checked.outcome == Outcome::kHolds   ? "holds"
           : checked.outcome == Outcome::kFails ? "does not hold"
                                                : "not known"},
          {"reason", checked.reason},
          {"seeds", checked.seeds},
          {"seeds_holding", checked.seeds_holding},
          {"text", criterion_text(checked) + ": " + outcome_text(checked)}};
}

ordered_json json_of(const RunNumber& number) {
  return {{"name", number.name},
          {"metric", number.metric},
          {"take", enum_name(number.take)},
          {"set", number.set},
          {"steps", number.steps}};
}

ordered_json json_of(const Comparison& comparison, const ComparedRun& run) {
  auto numbers = ordered_json::object();
  for (std::size_t i = 0; i < comparison.numbers.size(); ++i) {
    numbers[comparison.numbers[i].name] = json_or_null(run.numbers[i]);
  }
  return {{"name", run.curves.name},
          {"folder", run.curves.folder.string()},
          {"seed", run.curves.seed},
          {"state", run.curves.state},
          {"not_counted", run.not_counted},
          {"step", run.curves.last_step()},
          {"value", json_or_null(run.value)},
          {"spent", json_of(run.spent)},
          {"until_target", run.target ? json_of(*run.target) : ordered_json()},
          {"numbers", numbers}};
}

ordered_json json_of(const Comparison& comparison, const Arm& arm) {
  auto differences = ordered_json::array(), runs = ordered_json::array();
  auto numbers = ordered_json::object();
  for (std::size_t i = 0; i < comparison.numbers.size(); ++i) {
    numbers[comparison.numbers[i].name] = json_of(arm.numbers[i]);
  }
  for (const auto& [key, before, now] : arm.differences) {
    differences.push_back({{"key", key}, {"base", before}, {"here", now}});
  }
  for (const auto& run : arm.runs) {
    runs.push_back(json_of(comparison, run));
  }
  return {{"name", arm.name},
          {"note", arm.note},
          {"verdict", arm.verdict_text()},
          {"reason", arm.reason},
          {"value", json_of(arm.value)},
          {"difference", arm.difference ? json_of(*arm.difference) : ordered_json()},
          {"adjusted_p", arm.adjusted_p},
          {"spent", json_of(arm.spent)},
          {"until_target", json_of(arm.target)},
          {"numbers", numbers},
          {"config", differences},
          {"runs", runs}};
}

}  // namespace

std::string comparison_markdown(const Comparison& comparison) {
  MarkdownTable table(comparison_titles(comparison));
  for (const auto& arm : comparison.arms) {
    table.add(comparison_row(comparison, arm));
  }
  const auto title = comparison.title.empty() ? "" : "# " + comparison.title + "\n\n";
  return title + table.text() + "\n" + explanation(comparison) + criteria_section(comparison);
}

std::string comparison_csv(const Comparison& comparison) {
  const auto difference = [](double Difference::*what) {
    return [what](const Arm& arm) {
      return arm.difference ? csv_number((*arm.difference).*what) : "";
    };
  };
  std::vector<CsvColumn<Arm>> columns = {
      {"arm", [](const Arm& arm) { return arm.name; }},
      {"n", [](const Arm& arm) { return std::to_string(arm.value.n); }},
      {"mean", [](const Arm& arm) { return csv_number(arm.value.mean); }},
      {"sd", [](const Arm& arm) { return csv_number(arm.value.sd); }},
      {"difference", difference(&Difference::mean)},
      {"low", [](const Arm& arm) { return csv_number(bound(arm, &Interval::low)); }},
      {"high", [](const Arm& arm) { return csv_number(bound(arm, &Interval::high)); }},
      {"p", difference(&Difference::p)},
      {"adjusted_p",
       [](const Arm& arm) { return arm.difference ? csv_number(arm.adjusted_p) : ""; }},
      {"verdict", [](const Arm& arm) { return arm.verdict_text(); }},
      {"tokens", [](const Arm& arm) { return csv_number(arm.spent.tokens.mean); }},
      {"flops", [](const Arm& arm) { return csv_number(arm.spent.flops.mean); }},
      {"seconds", [](const Arm& arm) { return csv_number(arm.spent.seconds.mean); }},
      {"tokens_to_target", [](const Arm& arm) { return csv_number(arm.target.tokens.mean); }},
      {"flops_to_target", [](const Arm& arm) { return csv_number(arm.target.flops.mean); }},
      {"reached_target", [](const Arm& arm) { return std::to_string(arm.target.tokens.n); }},
      {"note", [](const Arm& arm) { return arm.note; }},
  };
  for (std::size_t i = 0; i < comparison.numbers.size(); ++i) {
    const auto& name = comparison.numbers[i].name;
    columns.push_back({name, [i](const Arm& arm) { return csv_number(arm.numbers[i].mean); }});
    columns.push_back(
        {name + "_sd", [i](const Arm& arm) { return csv_number(arm.numbers[i].sd); }});
  }
  std::string csv;
  add_csv_line<Arm>(csv, columns, nullptr);
  for (const auto& arm : comparison.arms) {
    add_csv_line(csv, columns, &arm);
  }
  return csv;
}

std::string comparison_runs_csv(const Comparison& comparison) {
  const Arm* arm = nullptr;
  const auto target = [](double Spent::*what) {
    return [what](const ComparedRun& run) {
      return run.target ? csv_number((*run.target).*what) : "";
    };
  };
  std::vector<CsvColumn<ComparedRun>> columns = {
      {"arm", [&arm](const ComparedRun&) { return arm->name; }},
      {"run", [](const ComparedRun& run) { return run.curves.name; }},
      {"seed", [](const ComparedRun& run) { return std::to_string(run.curves.seed); }},
      {"state", [](const ComparedRun& run) { return run.curves.state; }},
      {"step", [](const ComparedRun& run) { return std::to_string(run.curves.last_step()); }},
      {"value", [](const ComparedRun& run) { return csv_number(run.value); }},
      {"tokens", [](const ComparedRun& run) { return csv_number(run.spent.tokens); }},
      {"flops", [](const ComparedRun& run) { return csv_number(run.spent.flops); }},
      {"seconds", [](const ComparedRun& run) { return csv_number(run.spent.seconds); }},
      {"tokens_to_target", target(&Spent::tokens)},
      {"flops_to_target", target(&Spent::flops)},
      {"seconds_to_target", target(&Spent::seconds)},
      {"not_counted", [](const ComparedRun& run) { return run.not_counted; }},
  };
  for (std::size_t i = 0; i < comparison.numbers.size(); ++i) {
    columns.push_back({comparison.numbers[i].name,
                       [i](const ComparedRun& run) { return csv_number(run.numbers[i]); }});
  }
  std::string csv;
  add_csv_line<ComparedRun>(csv, columns, nullptr);
  for (const auto& of : comparison.arms) {
    arm = &of;
    for (const auto& run : of.runs) {
      add_csv_line(csv, columns, &run);
    }
  }
  return csv;
}

std::string comparison_json(const Comparison& comparison) {
  const auto& judge = comparison.judge;
  auto arms = ordered_json::array(), numbers = ordered_json::array(),
       criteria = ordered_json::array();
  for (const auto& arm : comparison.arms) {
    arms.push_back(json_of(comparison, arm));
  }
  for (const auto& number : comparison.numbers) {
    numbers.push_back(json_of(number));
  }
  for (const auto& checked : comparison.criteria) {
    criteria.push_back(json_of(checked));
  }
  const ordered_json result = {{"title", comparison.title},
                               {"judge",
                                {{"key", judge.key},
                                 {"set", judge.set},
                                 {"of", judge.of_validation ? "validation" : "training"},
                                 {"better", judge.higher_is_better ? "higher" : "lower"},
                                 {"best", judge.best},
                                 {"at_step", json_or_null(judge.at_step)},
                                 {"target", json_or_null(judge.target)}}},
                               {"base", comparison.arms[comparison.base].name},
                               {"numbers", numbers},
                               {"criteria", criteria},
                               {"arms", arms},
                               {"notes", comparison.notes}};
  return result.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace braid
