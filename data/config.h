#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "data/bad_lines.h"
#include "data/sample_rules.h"
#include "data/task_options.h"
#include "data/validation_sets.h"

namespace braid {

/// Text to train on; in YAML its path alone, or {path: corpus/a, weight: 0.3}.
struct TextEntry {
  static constexpr const char* kScalarKey = "path";
  std::string path;
  std::optional<double> weight;
  std::optional<int64_t> max_samples;
  std::optional<SampleFormat> format;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("path",
      &TextEntry::path,
      "a file, or a folder of *.txt, *.jsonl and *.ndjson (.gz, .zst)",
      required);
    v("weight",
      &TextEntry::weight,
      "share of the samples, relative to the others; all sources have one, or none",
      more_than(0));
    v("max_samples",
      &TextEntry::max_samples,
      "only its first documents or samples",
      absent_as("all"),
      at_least(1));
    v("format", &TextEntry::format, "of its rows; default = data.format", absent_as("default"));
  }
};

/// What to train on: a text, or a synthetic task.
struct DataSource : TextEntry {
  std::optional<TaskOptions> task;  ///< then there is no path

  DataSource() = default;
  DataSource(std::string from, std::optional<double> share = {})  // NOLINT: a path is one
  {
    path = std::move(from);
    weight = share;
  }
  DataSource(TaskOptions options, std::optional<double> share = {})  // NOLINT: a task is one
      : task(std::move(options)) {
    weight = share;
  }

  static constexpr const char* kConfigKind = "text | {path: text, ...} | {task: name, ...}";
  static DataSource from_config(const ConfigNode& node,
                                const std::string& path,
                                ConfigPlaces& places);
  ConfigNode to_config() const;

  /// What it may be, for --help-config.
  static constexpr bool kHasForms = true;
  template <class Use>
  static void forms(const Use& use) {
    use("[]", TextEntry());
    use("[task: recall]", TaskEntry<RecallOptions>());
    use("[task: copying]", TaskEntry<CopyingOptions>());
    use("[task: needle]", TaskEntry<NeedleOptions>());
    use("[task: arithmetic]", TaskEntry<ArithmeticOptions>());
  }
};

/// The keys of SampleRules are the section's own.
struct DataSection : SampleRules {
  std::vector<DataSource> train;
  ValidationSets validation;
  double validation_fraction = 0.02;
  std::string document_separator;
  std::string text_key = "text";
  OnBadLine on_bad_sample = OnBadLine::kError;
  int64_t seq_len = 256;
  int64_t validation_seq_len = 1024;
  int64_t pack_window = 256;

  template <class Visitor>
  static void fields(Visitor& v) {
    using D = DataSection;
    v("train",
      &D::train,
      "text and JSONL, and synthetic tasks; without weights all documents of texts are shuffled "
      "together, with them the samples of each source are mixed by its weight");
    v("validation",
      &D::validation,
      "paths to validate on, or sets of them by name, each reported apart; a set may be a task; "
      "empty = a fraction of the training documents, and of each task what is held out");
    v("validation_fraction",
      &D::validation_fraction,
      "share of documents, chosen by a hash of their content",
      between(0, 0.5));
    v("document_separator",
      &D::document_separator,
      "plain text: a line of exactly this separates documents; empty = one per file");
    v("text_key", &D::text_key, "JSONL: the key that holds a line's document");
    v("on_bad_sample",
      &D::on_bad_sample,
      "JSONL: a line without a document or sample ends everything, or is skipped and counted",
      formerly("on_bad_line"));
    SampleRules::fields(v);
    v("seq_len", &D::seq_len, "tokens per packed sequence", at_least(2));
    v("validation_seq_len",
      &D::validation_seq_len,
      "the same in validation: the longest context of a prediction",
      at_least(2));
    v("pack_window", &D::pack_window, "documents considered together when packing", at_least(1));
  }

  /// Throws ConfigError where only some sources have a weight, or a task beside others has none,
  /// and for tasks that cannot be made or do not fit a row.
  void validate() const;
  /// What is validated on besides a fraction of the texts: `validation`, or, where that is empty
  /// and something is to be held back, the tasks that are trained, each as a set of its name.
  ValidationSets validation_sets() const;
};

}  // namespace braid
