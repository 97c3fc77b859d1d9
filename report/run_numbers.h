#pragma once
// Further numbers of each run beside the one that runs are judged by, and the built-in ones by
// their names.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"

namespace braid {

struct Arm;
struct Comparison;
struct ComparedRun;

/// What is taken of a metric's values over a run.
enum class Take { kLast, kLastTenth, kLargest, kSmallest };
inline auto enum_names(Take) {
  return std::array{EnumName{"last", Take::kLast},
                    EnumName{"last_tenth", Take::kLastTenth},
                    EnumName{"largest", Take::kLargest},
                    EnumName{"smallest", Take::kSmallest}};
}

/// A number of each run, out of the values that a metric had in it.
struct RunNumber {
  std::string name = {};  ///< the column's title
  std::string metric = {};
  Take take = Take::kLast;
  std::string set = {};
  std::vector<int64_t> steps = {};  ///< empty, or from, to

  static constexpr const char* kScalarKey = "metric";

  template <class Visitor>
  static void fields(Visitor& v) {
    using N = RunNumber;
    v("metric",
      &N::metric,
      "a key of metrics.jsonl: of training steps, else of the validation set that runs are judged "
      "by; validation/KEY is of that set in any case",
      required);
    v("take",
      &N::take,
      "its last value, the mean over the last tenth of its values, the largest or the smallest");
    v("set", &N::set, "the validation set that it is taken of; empty = see metric");
    v("steps",
      &N::steps,
      "[from, to]: its values at these steps alone, both included",
      at_least(0));
  }

  /// Throws ConfigError with the path of a key for what single keys cannot tell.
  void validate(const std::string& path) const;
};

/// "NAME=METRIC" or "NAME=METRIC:TAKE". Throws Error that begins with the text.
RunNumber run_number_of(const std::string& text);

/// Adds numbers to a comparison: to each run its value, to each arm the mean. A run has none where
/// its metric has no value in those steps, or one that is not finite. What no run has becomes a
/// note.
void add_numbers(Comparison& comparison, const std::vector<RunNumber>& numbers);

/// Names of the numbers that every comparison has: value, the judge's metric, tokens,
/// tokens_to_target, ...
std::vector<std::string> built_in_numbers(const std::string& judged_metric);

/// Throws ConfigError for numbers called like a built-in one or like a column of the CSV files.
void require_own_names(const std::vector<RunNumber>& numbers, const std::string& judged_metric);

/// A number of a run, further or built in; nothing where the run or the comparison has none.
std::optional<double> number_of(const Comparison& comparison,
                                const ComparedRun& run,
                                const std::string& name);

/// "19.61 ± 0.3", of fewer runs than the arm's n with "(2 runs)" behind; "-" without any.
std::string number_cell(const Arm& arm, std::size_t number);

}  // namespace braid
