#pragma once
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"

namespace braid {

/// Texts to validate on, judged apart from other sets.
struct ValidationSet {
  std::string name;  ///< part of file names and of the log; empty where there is only one set
  std::vector<std::string> paths;
};

/// What data.validation holds. In YAML a list of paths, which is one set without a name, or a
/// mapping of names to a path or a list of paths: `{prose: held/prose, code: [a.jsonl, b.jsonl]}`.
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

  static constexpr const char* kConfigKind = "[text, ...] | {name: text or [text, ...], ...}";
  /// Throws Error with the path and the place for a name that cannot be part of a file's name, and
  /// for a named set without a path.
  static ValidationSets from_config(const ConfigNode& node,
                                    const std::string& path,
                                    ConfigPlaces& places);
  ConfigNode to_config() const;

 private:
  std::vector<ValidationSet> sets_;
};

}  // namespace braid
