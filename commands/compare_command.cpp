#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/plot_options.h"
#include "core/config_value.h"
#include "core/error.h"
#include "report/comparison_files.h"
#include "report/svg_plot.h"
#include "run/run_list.h"
#include "sweep/sweep_record.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> parts_of(const std::string& list) {
  std::vector<std::string> parts(1);
  for (const char c : list) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// Those of a sweep are in the folder `runs` of its own.
std::vector<RunCurves> read_runs(const std::vector<std::string>& folders) {
  std::vector<fs::path> places;
  for (const fs::path folder : folders) {
    const bool is_sweep = !is_run(folder) && fs::is_directory(folder / "runs");
    places.push_back(is_sweep ? folder / "runs" : folder);
  }
  std::vector<RunCurves> runs;
  for (const auto& folder : run_folders(places)) {
    runs.push_back(read_run(folder));
  }
  require(!runs.empty(), joined(folders), ": no runs are there");
  return runs;
}

// Each argument is a folder, or NAME=FOLDER,FOLDER,...: then all are.
std::vector<ArmRuns> named_arms(const std::vector<std::string>& arguments) {
  std::vector<ArmRuns> arms;
  for (const auto& argument : arguments) {
    const auto equals = argument.find('=');
    require(equals != std::string::npos && equals > 0,
            argument,
            ": where some runs are given as NAME=RUN,RUN, all are; name the arm of this one");
    auto& arm = arms.emplace_back(ArmRuns{argument.substr(0, equals), {}, ""});
    arm.runs = read_runs(parts_of(argument.substr(equals + 1)));
  }
  return arms;
}

bool names_an_arm(const std::string& argument) {
  std::error_code unreadable;
  return argument.find('=') != std::string::npos && !fs::exists(argument, unreadable);
}

// A number, or the word `base`.
void read_target(const std::string& given, Judge& judge) {
  if (given == "base") {
    judge.target_from_base = true;
  } else if (!given.empty()) {
    auto node = ConfigNode::plain(given);
    node.place = "the command line";
    judge.target = read_real(node, "--target-loss", {});
    judge.target_from_base = false;
  }
}

struct CompareArguments {
  std::vector<std::string> runs, by, numbers;
  std::string base, target, title, output;
  Judge judge;
  MetricPlot plot;
  int64_t at_step = 0;
  bool csv = false, json = false, lower = false, higher = false;
  /// Given on the command line, where a sweep has its own.
  std::function<bool(const char*)> is_given;
};

// The record of the sweep whose folder is all that is to be compared.
std::optional<SweepRecord> record_of(const CompareArguments& a) {
  return a.runs.size() == 1 && a.by.empty() ? read_sweep_record(a.runs.front()) : std::nullopt;
}

// That of the sweep, where there is one, with what the command line has otherwise.
Judge judge_for(const CompareArguments& a, const std::optional<SweepRecord>& record) {
  Judge judge = record ? judge_of(record->judge) : a.judge;
  if (a.is_given("--metric")) {
    judge.key = a.judge.key;
  }
  if (a.is_given("--validation")) {
    judge.set = a.judge.set;
  }
  judge.best = judge.best || a.judge.best;
  if (!record || a.is_given("--metric") || a.higher || a.lower) {
    judge.higher_is_better = a.higher || (!a.lower && higher_is_better(judge.key));
  }
  if (a.at_step > 0) {
    judge.at_step = a.at_step;
  }
  read_target(a.target, judge);
  return judge;
}

std::vector<RunNumber> numbers_of(const CompareArguments& a, const std::string& judged_metric) {
  std::vector<RunNumber> numbers;
  for (const auto& given : a.numbers) {
    numbers.push_back(run_number_of(given));
  }
  require_own_names(numbers, judged_metric);
  return numbers;
}

Comparison compared(const CompareArguments& a) {
  const auto record = record_of(a);
  std::vector<std::string> notes;
  auto arms = record                                      ? recorded_arms(a.runs.front(), *record)
              : std::ranges::any_of(a.runs, names_an_arm) ? named_arms(a.runs)
                                                          : arms_of(read_runs(a.runs), a.by, notes);
  const auto judge = judge_for(a, record);
  const auto more = numbers_of(a, judge.key);
  auto comparison = compare(std::move(arms),
                            judge,
                            record && a.base.empty() ? record->base_arm : a.base,
                            record && a.title.empty() ? record->title : a.title);
  comparison.notes.insert(comparison.notes.begin(), notes.begin(), notes.end());
  if (record) {
    add_numbers(comparison, record->numbers.all);
  }
  add_numbers(comparison, more);
  if (record) {
    check_criteria(comparison, record->criteria);
  }
  return comparison;
}

int run_compare(const CompareArguments& a) {
  const auto comparison = compared(a);
  if (!a.plot.metric.empty()) {
    require(!a.output.empty(), "--plot needs -o FILE.svg, the file to draw into");
    write_svg(a.output, svg_of_arms(comparison, a.plot));
    std::cerr << "wrote " << a.output << std::endl;
    return 0;
  }
  std::cout << (a.json  ? comparison_json(comparison)
                : a.csv ? comparison_csv(comparison)
                        : comparison_markdown(comparison));
  if (!a.output.empty()) {
    for (const auto& path : write_comparison(comparison, a.output)) {
      std::cerr << "wrote " << path.string() << std::endl;
    }
  }
  return 0;
}

}  // namespace

Command compare_command(CLI::App& app) {
  auto arguments = std::make_shared<CompareArguments>();
  auto& a = *arguments;
  auto* command = app.add_subcommand(
      "compare", "Compares runs: means over seeds, differences with intervals, a verdict");
  command
      ->add_option(
          "RUN", a.runs, "runs, folders that hold runs, sweeps, or arms of some: NAME=RUN,RUN,...")
      ->required()
      ->check(not_empty());
  command
      ->add_option("--by",
                   a.by,
                   "a configuration key; runs of equal values are an arm. Repeatable; without it "
                   "all keys that change what is computed")
      ->allow_extra_args(false);
  command->add_option("--base", a.base, "the arm that others are compared with (the first)");
  command->add_option("--metric", a.judge.key, "what runs are judged by")->capture_default_str();
  command->add_option("--validation", a.judge.set, "the validation set that it is taken of");
  command->add_flag("--best", a.judge.best, "the best value of each run instead of the last");
  auto* higher = command->add_flag("--higher-is-better", a.higher);
  command->add_flag("--lower-is-better", a.lower, "otherwise the metric's name decides")
      ->excludes(higher);
  command->add_option("--at-step", a.at_step, "judge at this step; unfinished runs count, too")
      ->check(whole_number(1, 1'000'000'000'000'000));
  command->add_option("--target-loss",
                      a.target,
                      "also compare what it takes to reach this value; base = that of the base "
                      "arm's worst run");
  command
      ->add_option("--number",
                   a.numbers,
                   "a further column: NAME=METRIC, or NAME=METRIC:TAKE with last, last_tenth, "
                   "largest or smallest. Repeatable")
      ->allow_extra_args(false);
  command->add_option("--title", a.title, "of the table");
  command->add_option(
      "-o,--output", a.output, "a folder for the table in every format; with --plot the file");
  add_plot_options(*command, a.plot);
  auto* csv = command->add_flag("--csv", a.csv, "a row for each arm, exact numbers");
  command->add_flag("--json", a.json, "one JSON object, with every run")->excludes(csv);
  command->footer(
      "Runs that differ in nothing but their seed, name and place are an arm. The first RUN's arm "
      "is the\nbase. The folder of a sweep alone: its arms, numbers and criteria. "
      "docs/ablations.md "
      "states how to\nread the table.\n\n"
      "Example:\n"
      "  braid compare runs/\n"
      "  braid compare plain=runs/plain-1,runs/plain-2 mhc=runs/mhc-1,runs/mhc-2 --target-loss "
      "base\n"
      "  braid compare sweeps/residual --by model.residual -o residual\n"
      "  braid compare sweeps/residual --plot residual_gain.forward_max -o gain.svg");
  a.is_given = [command](const char* option) { return command->count(option) > 0; };
  return [arguments] { return run_compare(*arguments); };
}

}  // namespace braid
