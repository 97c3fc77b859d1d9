#include "report/comparison_page.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "report/interval_plot.h"
#include "report/metric_panels.h"
#include "report/page_parts.h"

namespace braid {
namespace {

std::vector<const RunCurves*> counted(const Comparison& comparison) {
  std::vector<const RunCurves*> runs;
  for (const auto& arm : comparison.arms) {
    const auto of_arm = arm.counted_curves();
    runs.insert(runs.end(), of_arm.begin(), of_arm.end());
  }
  return runs;
}

std::size_t most_steps(const std::vector<const RunCurves*>& runs) {
  std::size_t most = 0;
  for (const auto* run : runs) {
    most = std::max(most, run->steps.size());
  }
  return most;
}

const char* mark_of(Verdict verdict) {
  return verdict == Verdict::kBetter ? "better" : verdict == Verdict::kWorse ? "worse" : "";
}

// Keys of all runs, in the order in which they first come.
template <class Visit>
std::vector<std::string> keys_of(const std::vector<const RunCurves*>& runs, const Visit& visit) {
  std::vector<std::string> keys;
  for (const auto* run : runs) {
    visit(*run, [&keys](const std::string& key) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
        keys.push_back(key);
      }
    });
  }
  return keys;
}

class ComparisonPage {
 public:
  explicit ComparisonPage(const Comparison& comparison)
      : comparison_(comparison),
        runs_(counted(comparison)),
        axes_(runs_),
        smoothing_(smoothing_for(most_steps(runs_))),
        page_({.title = comparison.title.empty() ? "Comparison of runs" : comparison.title,
               .x_axes = runs_.empty() ? std::vector<std::string>{} : axes_.names(),
               .smoothing = smoothing_}) {}

  std::string html() {
    page_.subtitle(text("Judged by ", judged_text(comparison_.judge), "."));
    add_verdicts();
    add_criteria();
    add_losses();
    add_metrics();
    add_runs();
    add_configurations();
    add_samples(page_, named_runs());
    add_events(page_, named_runs());
    return page_.html();
  }

 private:
  std::vector<NamedRun> named_runs() const {
    std::vector<NamedRun> named;
    for (const auto& arm : comparison_.arms) {
      for (const auto& run : arm.runs) {
        named.push_back({text(arm.name, ", seed ", run.curves.seed), &run.curves});
      }
    }
    return named;
  }

  const std::string& base_name() const { return comparison_.arms[comparison_.base].name; }

  void add_verdicts() {
    page_.section("Result");
    PageTable table{"", comparison_titles(comparison_), {}};
    for (const auto& arm : comparison_.arms) {
      std::vector<TableCell> row;
      for (const auto& cell : comparison_row(comparison_, arm)) {
        row.push_back({cell, cell == arm.verdict_text() ? mark_of(arm.verdict) : ""});
      }
      table.rows.push_back(row);
    }
    page_.table(table);
    page_.paragraph(text("Means ± standard deviations over n seeds; differences to ",
                         base_name(),
                         ", with Student's 95 % intervals. An arm is better or worse where p, "
                         "corrected for the number of arms (Holm), is below ",
                         kSignificance,
                         "."));
    for (const auto& arm : comparison_.arms) {
      for (const auto* words : {&arm.note, &arm.reason}) {
        if (!words->empty()) {
          page_.paragraph(arm.name + ": " + *words);
        }
      }
    }
    for (const auto& note : comparison_.notes) {
      page_.paragraph("Note: " + note);
    }
    add_differences();
  }

  void add_criteria() {
    page_.section("Criteria");
    if (comparison_.criteria.empty()) {
      return;
    }
    PageTable table{criteria_summary(comparison_) + ".", {"criterion", "outcome"}, {}};
    for (const auto& checked : comparison_.criteria) {
      table.rows.push_back({{criterion_text(checked)},
                            {outcome_text(checked),
                             checked.outcome == Outcome::kHolds   ? "better"
                             : checked.outcome == Outcome::kFails ? "worse"
                                                                  : ""}});
    }
    page_.table(table);
  }

  void add_differences() {
    IntervalPlot plot{ids_.of("differences"),
                      "Differences to " + base_name(),
                      text("In the ",
                           comparison_.judge.key,
                           ", with 95 % intervals; ",
                           comparison_.judge.higher_is_better ? "right" : "left",
                           " of zero is better."),
                      "difference in " + comparison_.judge.key,
                      {}};
    for (const auto& arm : comparison_.arms) {
      if (!arm.difference) {
        continue;
      }
      IntervalRow row{
          arm.name, arm.difference->mean, std::nan(""), std::nan(""), arm.verdict_text()};
      if (const auto& interval = arm.difference->t) {
        row.low = interval->low;
        row.high = interval->high;
      }
      plot.rows.push_back(row);
    }
    if (!plot.rows.empty()) {
      page_.figure(figure_of(plot));
    }
  }

  // A line for each arm; `find` returns a run's series or null. Arms of which a run has none are
  // left out.
  template <class Find>
  void add_plot(const std::string& title,
                const std::string& note,
                const std::string& y_label,
                bool log_y,
                bool smooths,
                const Find& find) {
    LinePlot plot{ids_.of(title), title, note, axes_.x(), y_label, log_y, {}, {}};
    for (std::size_t i = 0; i < comparison_.arms.size(); ++i) {
      std::vector<RunSeries> of_arm;
      for (const auto* run : comparison_.arms[i].counted_curves()) {
        if (const Series* series = find(*run)) {
          of_arm.push_back({run, series});
        }
      }
      if (!of_arm.empty()) {
        plot.series.push_back(
            arm_series(axes_, comparison_.arms[i].name, static_cast<int>(i), of_arm, smooths));
      }
    }
    if (has_points(plot)) {
      page_.figure(figure_of(plot, smoothing_));
    }
  }

  bool has_spread() const {
    return std::any_of(comparison_.arms.begin(), comparison_.arms.end(), [](const Arm& arm) {
      return arm.counted_runs().size() > 1;
    });
  }

  std::vector<std::string> validation_sets() const {
    return keys_of(runs_, [](const RunCurves& run, const auto& add) {
      for (const auto& [set, series] : run.validation) {
        add(set);
      }
    });
  }

  void add_losses() {
    page_.section("Loss");
    if (has_spread()) {
      page_.paragraph(
          "Lines are means over an arm's seeds at equal steps, bands go from the lowest to the "
          "highest seed.");
    }
    const auto sets = validation_sets();
    for (const auto& set : sets) {
      add_plot(text("Loss, ", validation_name(set)),
               "",
               "nats per target",
               false,
               false,
               [&](const RunCurves& run) { return run.validation_series(set, "loss"); });
    }
    add_plot("Loss, training", "", "nats per target", false, true, [](const RunCurves& run) {
      return run.training_series("loss");
    });
    const auto keys = keys_of(runs_, [](const RunCurves& run, const auto& add) {
      for (const auto& [set, all] : run.validation) {
        for (const auto& series : all) {
          add(series.key);
        }
      }
    });
    for (const auto& panel : validation_panels(keys)) {
      for (const auto& [key, name] : panel.members) {
        for (const auto& set : sets) {
          add_plot(title_of(panel, name) + (set.empty() ? "" : ", " + set),
                   panel.note,
                   panel.y_label,
                   panel.log_y,
                   false,
                   [&key, &set](const RunCurves& run) { return run.validation_series(set, key); });
        }
      }
    }
  }

  // Of many layers the first, the middle and the last one: lines are for arms here.
  static std::vector<MetricPanel::Member> shown_members(const MetricPanel& panel) {
    const auto& all = panel.members;
    return panel.is_by_layer ? std::vector{all.front(), all[all.size() / 2], all.back()} : all;
  }

  static std::string title_of(const MetricPanel& panel, const std::string& member) {
    return panel.members.size() == 1 ? panel.title
           : panel.is_by_layer       ? panel.title + ": layer " + member
                                     : panel.title + ": " + member;
  }

  void add_metrics() {
    const auto keys = keys_of(runs_, [](const RunCurves& run, const auto& add) {
      for (const auto& series : run.training) {
        add(series.key);
      }
    });
    std::string section = "Loss";
    for (const auto& panel : training_panels(keys)) {
      if (panel.section != section) {
        section = panel.section;
        page_.section(section);
      }
      const auto members = shown_members(panel);
      for (const auto& [key, name] : members) {
        add_plot(title_of(panel, name),
                 panel.note,
                 panel.y_label,
                 panel.log_y,
                 true,
                 [&key](const RunCurves& run) { return run.training_series(key); });
      }
    }
  }

  void add_runs() {
    page_.section("Runs");
    PageTable table{
        "", {"run", "arm", ">seed", "state", ">step", ">" + comparison_.judge.key, "notes"}, {}};
    for (const auto& arm : comparison_.arms) {
      for (const auto& run : arm.runs) {
        const auto& curves = run.curves;
        const bool counts = run.not_counted.empty();
        table.rows.push_back({{curves.name},
                              {arm.name},
                              {std::to_string(curves.seed)},
                              {curves.state, counts ? "" : "failed"},
                              {text(curves.last_step(), " of ", curves.max_steps)},
                              {run.value ? number_text(*run.value, NumberStyle::kPlain, 5) : "-"},
                              {counts ? curves.problem : "not counted: " + run.not_counted,
                               counts ? "" : "failed"}});
      }
    }
    page_.table(table);
  }

  void add_configurations() {
    page_.section("Configurations");
    PageTable table{"What each arm has otherwise than " + base_name() + ".",
                    {"arm", "key", base_name(), "here"},
                    {}};
    for (const auto& arm : comparison_.arms) {
      for (const auto& [key, before, now] : arm.differences) {
        table.rows.push_back({{arm.name}, {key, "code"}, {before, "code"}, {now, "code"}});
      }
    }
    if (!table.rows.empty()) {
      page_.table(table);
    }
    const auto& base = comparison_.arms[comparison_.base];
    if (!base.runs.empty() && !base.runs.front().curves.config.entries.empty()) {
      page_.preformatted("every key of " + base.runs.front().curves.name,
                         yaml_text(base.runs.front().curves.config));
    }
  }

  const Comparison& comparison_;
  std::vector<const RunCurves*> runs_;
  CurveAxes axes_;
  std::size_t smoothing_;
  Page page_;
  Ids ids_;
};

}  // namespace

std::string comparison_page(const Comparison& comparison) {
  return ComparisonPage(comparison).html();
}

}  // namespace braid
