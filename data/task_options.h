#pragma once
// Synthetic tasks as sources of documents: what a configuration says of them. data/task.h has what
// their documents look like.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/config.h"

namespace braid {

enum class TaskKind { kRecall, kCopying, kNeedle, kArithmetic };
inline auto enum_names(TaskKind) {
  return std::array{EnumName{"recall", TaskKind::kRecall},
                    EnumName{"copying", TaskKind::kCopying},
                    EnumName{"needle", TaskKind::kNeedle},
                    EnumName{"arithmetic", TaskKind::kArithmetic}};
}

enum class ArithmeticOperation { kAdd, kSubtract, kMultiply };
inline auto enum_names(ArithmeticOperation) {
  return std::array{EnumName{"add", ArithmeticOperation::kAdd},
                    EnumName{"subtract", ArithmeticOperation::kSubtract},
                    EnumName{"multiply", ArithmeticOperation::kMultiply}};
}

/// The keys of every task.
struct AnyTaskOptions {
  int64_t seed = 1;
  double held_out = 0.1;
  int64_t documents = 256;

  template <class Visitor>
  static void fields(Visitor& v) {
    using T = AnyTaskOptions;
    v("seed", &T::seed, "of its documents", any_from(0));
    v("held_out",
      &T::held_out,
      "share of all its problems that are validated on and never trained, by a hash of the problem",
      between(0.001, 0.999));
    v("documents", &T::documents, "in validation; training has no end", between(1, 1e6));
  }
};

/// Associative recall: pairs of a key and a value, and each key once more later, behind which its
/// value is the answer.
struct RecallOptions : AnyTaskOptions {
  static constexpr TaskKind kKind = TaskKind::kRecall;
  int64_t pairs = 8;
  std::vector<int64_t> distances = {64};
  int64_t length = 256;
  int64_t symbols = 32;

  template <class Visitor>
  static void fields(Visitor& v) {
    using T = RecallOptions;
    v("pairs", &T::pairs, "of a key and a value in a document", at_least(1));
    v("distances",
      &T::distances,
      "in tokens, from a value to its answer; pairs take turns",
      at_least(2));
    v("length", &T::length, "tokens of a document", at_least(4));
    v("symbols", &T::symbols, "different keys, and as many values", at_least(1));
    AnyTaskOptions::fields(v);
  }
};

/// A sequence of random symbols, a gap, a mark, the sequence again as the answer.
struct CopyingOptions : AnyTaskOptions {
  static constexpr TaskKind kKind = TaskKind::kCopying;
  int64_t sequence = 16;
  std::vector<int64_t> distances = {64};
  int64_t symbols = 32;

  template <class Visitor>
  static void fields(Visitor& v) {
    using T = CopyingOptions;
    v("sequence", &T::sequence, "tokens that are copied", at_least(1));
    v("distances",
      &T::distances,
      "in tokens, from a symbol to its copy; one is drawn for each document",
      at_least(2));
    v("symbols", &T::symbols, "different ones", at_least(1));
    AnyTaskOptions::fields(v);
  }
};

/// A key and a value somewhere in a long text, and the key again at its end, behind which the value
/// is the answer.
struct NeedleOptions : AnyTaskOptions {
  static constexpr TaskKind kKind = TaskKind::kNeedle;
  int64_t length = 1024;
  std::vector<int64_t> distances;
  int64_t sequence = 4;
  int64_t symbols = 32;
  std::string filler;

  template <class Visitor>
  static void fields(Visitor& v) {
    using T = NeedleOptions;
    v("length", &T::length, "tokens of a document", at_least(16));
    v("distances",
      &T::distances,
      "in tokens, from the value to the answer; empty = anywhere, reported by tenths of the "
      "document",
      at_least(2));
    v("sequence", &T::sequence, "tokens of the value", at_least(1));
    v("symbols", &T::symbols, "different ones in keys and values", at_least(2));
    v("filler",
      &T::filler,
      "a text, file or folder, of which pieces are the haystack; empty = random tokens");
    AnyTaskOptions::fields(v);
  }
};

/// a op b = c modulo a number; c is the answer. Whether a problem is held out is decided by (a, b).
struct ArithmeticOptions : AnyTaskOptions {
  static constexpr TaskKind kKind = TaskKind::kArithmetic;
  int64_t modulus = 97;
  std::vector<ArithmeticOperation> operations = {ArithmeticOperation::kAdd};

  template <class Visitor>
  static void fields(Visitor& v) {
    using T = ArithmeticOptions;
    v("modulus", &T::modulus, "numbers are 0 to modulus - 1, a token each", between(5, 1000));
    v("operations", &T::operations, "one is drawn for each document");
    AnyTaskOptions::fields(v);
  }
};

/// A task with its options.
class TaskOptions {
 public:
  using Variant = std::variant<RecallOptions, CopyingOptions, NeedleOptions, ArithmeticOptions>;

  TaskOptions() = default;
  template <class Options>
  requires requires { Options::kKind; }
  TaskOptions(Options options)  // NOLINT: the options of a task are one
      : options_(std::move(options)) {}

  const Variant& variant() const { return options_; }
  const AnyTaskOptions& any() const;
  std::string name() const;       ///< "recall"
  std::string described() const;  ///< "task recall (8 pairs at distances 64, 128)"
  /// Inputs that its longest document needs in a row.
  int64_t longest() const;
  /// Throws ConfigError with the key below `path` for what cannot be together.
  void validate(const std::string& path) const;
  /// The options alone as YAML on one line.
  std::string text() const;

 private:
  Variant options_;
};

/// An entry of a list of sources: the keys of a task, and those that every source has.
template <class Options>
struct TaskEntry : Options {
  TaskKind task = Options::kKind;
  std::optional<double> weight;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("task", &TaskEntry::task, "a synthetic task instead of a text", required);
    Options::fields(v);
    v("weight",
      &TaskEntry::weight,
      "share of the samples; needed beside other sources",
      more_than(0));
  }
};

/// A task as it is written, {task: recall, pairs: 16, ...}, with its share of the samples.
struct WrittenTask {
  TaskOptions options;
  std::optional<double> weight;
};
bool is_task(const ConfigNode& node);
/// Throws Error with path and place for keys that the task does not have.
WrittenTask read_task(const ConfigNode& node, const std::string& path, ConfigPlaces& places);
ConfigNode to_config(const WrittenTask& task);
/// From the text of such a mapping; `source` is for messages.
WrittenTask parse_task(const std::string& yaml, const std::string& source);

}  // namespace braid
