#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "data/task_options.h"

namespace braid {

/// Texts or a synthetic task to validate on, judged apart from other sets.
struct ValidationSet {
  std::string name;  ///< part of file names and of the log; empty where there is only one set
  std::vector<std::string> paths;
  std::optional<TaskOptions> task = {};  ///< then there are no paths
};

/// What data.validation holds. In YAML a list of paths, which is one set without a name, or a
/// mapping of names to a path, a list of paths or a task:
/// `{prose: held/prose, code: [a.jsonl, b.jsonl], recall: {task: recall, pairs: 8}}`.
class ValidationSets {
 public:
  ValidationSets() = default;
  ValidationSets(std::vector<std::string> paths);  // NOLINT: paths are one set
  ValidationSets(std::initializer_list<std::string> paths)
      : ValidationSets(std::vector<std::string>(paths)) {}
  explicit ValidationSets(std::vector<ValidationSet> sets) : sets_(std::move(sets)) {}

  const std::vector<ValidationSet>& all() const { return sets_; }
  bool empty() const { return sets_.empty(); }
  /// The names in their order; nothing for a set without one.
  std::vector<std::string> names() const;

  static constexpr const char* kConfigKind =
      "[text, ...] | {name: text, [text, ...] or {task: name, ...}, ...}";
  /// Throws Error with the path and the place for a name that cannot be part of a file's name, for
  /// a named set without a path, and for a task with a weight.
  static ValidationSets from_config(const ConfigNode& node,
                                    const std::string& path,
                                    ConfigPlaces& places);
  ConfigNode to_config() const;

 private:
  std::vector<ValidationSet> sets_;
};

}  // namespace braid
