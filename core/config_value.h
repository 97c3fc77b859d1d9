#pragma once
// Single values of a configuration: what a field accepts, strict reading, exact writing.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/config_tree.h"

namespace braid {

/// Limits of a number, or of every number of a list.
struct Bounds {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_allowed = true;
};
inline Bounds at_least(double low) {
  return {.low = low};
}
inline Bounds more_than(double low) {
  return {.low = low, .low_allowed = false};
}
inline Bounds between(double low, double high) {
  return {.low = low, .high = high};
}

/// A whole number that uses all 63 bits, such as a seed. Others are at most 10^15.
inline Bounds any_from(double low) {
  return between(low, 0x1p63);
}

/// The key must be given, and a text not be empty.
struct Required {};
inline constexpr Required required = {};

/// The word that spells std::nullopt.
struct AbsentAs {
  const char* word;
};
inline AbsentAs absent_as(const char* word) {
  return {word};
}

/// The name that the key had in files of earlier versions, which are read on.
struct Formerly {
  const char* name;
};
inline Formerly formerly(const char* name) {
  return {name};
}

/// What a field declares beside its name and help.
struct FieldRules {
  Bounds bounds;
  const char* absent = "none";
  const char* former_name = nullptr;
  bool is_required = false;

  void add(const Bounds& rule) { bounds = rule; }
  void add(const AbsentAs& rule) { absent = rule.word; }
  void add(const Required&) { is_required = true; }
  void add(const Formerly& rule) { former_name = rule.name; }
};

/// " >= 1", " > 0", " in [0, 1]", or "" without limits.
std::string bounds_text(const Bounds& bounds);

/// Throws Error "path (place): message".
[[noreturn]] void fail_at(const std::string& path,
                          const ConfigNode& node,
                          const std::string& message);

/// Throws for a required key that is absent, or empty.
[[noreturn]] void fail_required(const std::string& path,
                                const std::string& key,
                                const ConfigNode& mapping);

/// Each reads one scalar or throws Error with the path, the place, what was expected and what is
/// there.
int64_t read_integer(const ConfigNode& node, const std::string& path, const Bounds& bounds);
double read_real(const ConfigNode& node, const std::string& path, const Bounds& bounds);
bool read_bool(const ConfigNode& node, const std::string& path);
std::string read_text(const ConfigNode& node, const std::string& path);

/// The index of the scalar in `names`, or an Error that lists them.
std::size_t read_choice(const ConfigNode& node,
                        const std::string& path,
                        const std::vector<std::string>& names);

/// Throws unless the node is a list / a mapping all of whose keys are in `keys`, or in
/// `former_keys`.
void require_list(const ConfigNode& node, const std::string& path);
void require_known_keys(const ConfigNode& node,
                        const std::string& path,
                        const std::vector<std::string>& keys,
                        const std::vector<std::string>& former_keys = {});

/// The value of a key in a mapping, also under the name that it had; null where it is absent.
/// Throws where both names are there.
const ConfigNode* find_key(const ConfigNode& mapping,
                           const std::string& path,
                           const std::string& key,
                           const FieldRules& rules);

/// Decimal text that read_real turns into the same double; the shortest such.
std::string real_text(double value);

/// "a, b, c"
std::string joined(const std::vector<std::string>& words, const std::string& separator = ", ");

}  // namespace braid
