#pragma once
// YAML as a plain tree whose every node knows where it was written. Reading goes through yaml-cpp's
// events rather than its nodes, which keep the first of two duplicate keys and forget positions.

#include <string>
#include <string_view>
#include <vector>

namespace braid {

struct ConfigNode {
  enum class Kind { kNull, kScalar, kSequence, kMapping };
  struct Entry;

  Kind kind = Kind::kNull;
  std::string place;              // "configs/x.yaml:12", or "--set"; a mapping entry's is its key's
  std::string scalar;             // kScalar
  bool quoted = false;            // kScalar written in quotes: text, never a number
  std::vector<ConfigNode> items;  // kSequence
  std::vector<Entry> entries;     // kMapping, in the order written, keys unique

  const ConfigNode* find(std::string_view key) const;

  static ConfigNode plain(std::string scalar);
  static ConfigNode text(std::string scalar);
  static ConfigNode sequence(std::vector<ConfigNode> items);
  static ConfigNode mapping(std::vector<Entry> entries);
};

struct ConfigNode::Entry {
  std::string key;
  ConfigNode value;
};

/// For messages: "a list", "a mapping", "nothing" or the scalar in quotes.
std::string described(const ConfigNode& node);

/// Parses one YAML document. `source` is the file name, used in places and errors ("source:line").
/// Refuses broken YAML, duplicate keys, keys that are not scalars, anchors, aliases, tags and a
/// second document, each with source:line:column.
ConfigNode parse_yaml(std::string_view yaml, const std::string& source);

/// Reads a configuration file, the files its `base:` keys name (relative to the file that names
/// them; later keys win, lists replace whole), then the overlays in the same way, then the
/// overrides
/// ("a.b=value", the value read as YAML).
ConfigNode read_config_tree(const std::string& path,
                            const std::vector<std::string>& overrides,
                            const std::vector<std::string>& overlays = {});

/// The tree of overrides alone; an empty mapping where there are none.
ConfigNode read_overrides(const std::vector<std::string>& overrides);

/// The node on one line, in YAML's flow style.
std::string inline_yaml_text(const ConfigNode& node);

/// "a.b was 1, is 2" for every key in which two trees differ; lists are compared whole.
std::vector<std::string> differences(const ConfigNode& before, const ConfigNode& now);

/// YAML text, one key a line, that parse_yaml reads back to the same tree.
std::string yaml_text(const ConfigNode& node);

}  // namespace braid
