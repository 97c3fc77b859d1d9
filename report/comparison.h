#pragma once
// Runs in arms, an arm against another: the result of an ablation. docs/ablations.md states how
// each number is found and the rule of the verdict.
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config_edit.h"
#include "report/criteria.h"
#include "report/curves.h"
#include "report/run_numbers.h"
#include "report/statistics.h"

namespace braid {

/// What runs are compared by: a number of their validation; of training, the mean over its last
/// tenth, where nothing was validated.
struct Judge {
  std::string set = {};      ///< of data.validation; empty = each run's judged_set()
  std::string key = "loss";  ///< "loss", "bits_per_byte", "reward_accuracy", ...
  bool higher_is_better = false;
  bool best = false;  ///< the best value of the run instead of the last
  /// Judged at this step instead of at the end; runs count that got there, finished or not.
  std::optional<int64_t> at_step = {};
  /// The value whose cost is asked for; nothing = not asked.
  std::optional<double> target = {};
  /// The target is the value of the base arm's worst run, which all of its runs reach.
  bool target_from_base = false;

  // Known by compare():
  bool of_validation = true;
  bool is_better(double a, double b) const { return higher_is_better ? a > b : a < b; }
};

/// Whether a number of this key is the better the higher it is: accuracies, margins, recall.
bool higher_is_better(const std::string& key);

/// What was spent until something.
struct Spent {
  double tokens = 0, flops = 0, seconds = 0;
};

struct ComparedRun {
  RunCurves curves;
  std::string not_counted = {};      ///< why it is in no mean; empty = it is
  std::optional<double> value = {};  ///< of the judge
  Spent spent = {};                  ///< until its last step
  std::optional<Spent> target =
      {};  ///< until the judge's target; nothing = not reached, or none asked
  std::vector<std::optional<double>> numbers = {};  ///< those of the comparison
};

/// The same three over the runs of an arm.
struct SpentSummary {
  Summary tokens, flops, seconds;
};

enum class Verdict { kBase, kBetter, kWorse, kNoDifference, kNotJudged };
/// The chance that any arm of a comparison is called better or worse although none is.
inline constexpr double kSignificance = 0.05;

/// Runs that differ in nothing but their seed.
struct Arm {
  std::string name;
  std::vector<ConfigDifference> differences = {};  ///< to the base arm, seeds and names left out
  std::vector<ComparedRun> runs = {};              ///< by seed
  std::string note = {};  ///< what a reader must know, such as how its learning rate was found

  Summary value = {};  ///< of the judge, over the runs that count
  SpentSummary spent = {};
  SpentSummary target = {};           ///< of the runs that reached it
  std::vector<Summary> numbers = {};  ///< those of the comparison
  std::optional<Difference> difference =
      {};                 ///< to the base arm's value; nothing for that arm itself
  double adjusted_p = 1;  ///< the difference's, for all arms together
  Verdict verdict = Verdict::kNotJudged;
  std::string reason = {};  ///< of the verdict, in a sentence

  /// The runs that are in means, and their curves.
  std::vector<const ComparedRun*> counted_runs() const;
  std::vector<const RunCurves*> counted_curves() const;
  /// "base", "better", "worse", "no difference seen at n = 3", "not judged".
  std::string verdict_text() const;
};

struct Comparison {
  std::string title;
  Judge judge = {};  ///< completed: the set's name, the target's value
  std::vector<Arm> arms = {};
  std::size_t base = 0;  ///< index of the base arm
  std::vector<std::string> notes = {};
  std::vector<RunNumber> numbers = {};          ///< see add_numbers()
  std::vector<CheckedCriterion> criteria = {};  ///< see check_criteria()
};

/// Runs to compare, as arms, before anything is computed.
struct ArmRuns {
  std::string name;
  std::vector<RunCurves> runs;
  std::string note = {};
};

/// Whether a key of a run says where it is, its seed, how it is shown, saved and divided, not what
/// is computed.
bool changes_no_result(const std::string& key);

/// Groups runs by their configurations: runs of an arm differ in keys alone that change no result.
/// With `by`, runs of an arm agree in these keys, and what else differs becomes a note. Arms are
/// named by their values, in the order of their first run.
std::vector<ArmRuns> arms_of(std::vector<RunCurves> runs,
                             const std::vector<std::string>& by,
                             std::vector<std::string>& notes);

/// Throws Error for a base that is no arm, and for a judged number that no run has.
Comparison compare(std::vector<ArmRuns> arms,
                   const Judge& judge,
                   const std::string& base,
                   const std::string& title);

/// How runs were judged: "the validation loss at the end; lower is better".
std::string judged_text(const Judge& judge);
/// The table's titles, those of numbers with a '>' in front, and the row of an arm.
std::vector<std::string> comparison_titles(const Comparison& comparison);
std::vector<std::string> comparison_row(const Comparison& comparison, const Arm& arm);

/// The table with what it needs to be understood: how runs were judged, the rule, notes.
std::string comparison_markdown(const Comparison& comparison);
/// A row for each arm: the table's columns, and exact numbers.
std::string comparison_csv(const Comparison& comparison);
/// A row for each run, also for those that count in no mean.
std::string comparison_runs_csv(const Comparison& comparison);
std::string comparison_json(const Comparison& comparison);

}  // namespace braid
