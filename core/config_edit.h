#pragma once
// Configurations as trees (core/config_tree.h) that are looked into, merged and compared.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/config.h"

namespace braid {

/// Whether a text is "a" or "a.b": keys between its dots.
bool is_key_path(std::string_view path);

/// The node at "a.b"; null where there is none.
const ConfigNode* node_at(const ConfigNode& tree, std::string_view path);
/// Its scalar; "" where there is none.
std::string scalar_at(const ConfigNode& tree, std::string_view path);

/// {a: {b: value}} for "a.b". Requires is_key_path().
ConfigNode tree_with(std::string_view path, ConfigNode value);

/// What overlays do: mappings merge key by key; anything else replaces what was there.
void merge_config(ConfigNode& into, ConfigNode from);

/// A key in which two trees differ, with its values on one line each; "null" where there is none.
struct ConfigDifference {
  std::string key, before, now;
};
/// Lists are compared whole. In the order of `now`; keys that only `before` has come last in their
/// mapping.
std::vector<ConfigDifference> differing_keys(const ConfigNode& before, const ConfigNode& now);

/// A tree as a configuration. Throws Error with the key path and the place for unknown, ill-typed
/// and out-of-range keys.
template <class Root>
LoadedConfig<Root> config_of(const ConfigNode& tree) {
  LoadedConfig<Root> loaded;
  config_detail::read_value(tree, "", {}, loaded, loaded.value);
  return loaded;
}

/// A configuration as a tree, every key with its value.
template <class Root>
ConfigNode tree_of(const Root& config) {
  return config_detail::node_of(config, {});
}

}  // namespace braid
