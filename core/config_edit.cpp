#include "core/config_edit.h"

#include <algorithm>

namespace braid {

bool is_key_path(std::string_view path) {
  return !path.empty() && path.front() != '.' && path.back() != '.' &&
         path.find("..") == std::string_view::npos;
}

const ConfigNode* node_at(const ConfigNode& tree, std::string_view path) {
  const auto dot = path.find('.');
  const auto* child = tree.find(path.substr(0, dot));
  return child == nullptr || dot == std::string_view::npos ? child
                                                           : node_at(*child, path.substr(dot + 1));
}

std::string scalar_at(const ConfigNode& tree, std::string_view path) {
  const auto* node = node_at(tree, path);
  return node == nullptr ? "" : node->scalar;
}

ConfigNode tree_with(std::string_view path, ConfigNode value) {
  const auto dot = path.rfind('.');
  const auto place = value.place;
  auto node = ConfigNode::mapping({{std::string(path.substr(dot + 1)), std::move(value)}});
  node.place = place;
  return dot == std::string_view::npos ? node : tree_with(path.substr(0, dot), std::move(node));
}

void merge_config(ConfigNode& into, ConfigNode from) {
  if (into.kind != ConfigNode::Kind::kMapping || from.kind != ConfigNode::Kind::kMapping) {
    into = std::move(from);
    return;
  }
  into.place = from.place;
  for (auto& [key, value] : from.entries) {
    const auto same_key = [&key = key](const auto& entry) { return entry.key == key; };
    const auto found = std::find_if(into.entries.begin(), into.entries.end(), same_key);
    if (found == into.entries.end()) {
      into.entries.push_back({key, std::move(value)});
    } else {
      merge_config(found->value, std::move(value));
    }
  }
}

std::vector<ConfigDifference> differing_keys(const ConfigNode& before, const ConfigNode& now) {
  using Kind = ConfigNode::Kind;
  if (before.kind != Kind::kMapping || now.kind != Kind::kMapping) {
    const auto was = inline_yaml_text(before), is = inline_yaml_text(now);
    return was == is ? std::vector<ConfigDifference>{}
                     : std::vector<ConfigDifference>{{"", was, is}};
  }
  std::vector<ConfigDifference> result;
  const ConfigNode nothing;
  const auto add = [&result](const std::string& key, const ConfigNode& was, const ConfigNode& is) {
    for (auto& difference : differing_keys(was, is)) {
      difference.key = difference.key.empty() ? key : key + "." + difference.key;
      result.push_back(std::move(difference));
    }
  };
  for (const auto& [key, is] : now.entries) {
    const auto* was = before.find(key);
    add(key, was != nullptr ? *was : nothing, is);
  }
  for (const auto& [key, was] : before.entries) {
    if (now.find(key) == nullptr) {
      add(key, was, nothing);
    }
  }
  return result;
}

std::vector<std::string> differences(const ConfigNode& before, const ConfigNode& now) {
  std::vector<std::string> result;
  for (const auto& [key, was, is] : differing_keys(before, now)) {
    result.push_back(key + " was " + was + ", is " + is);
  }
  return result;
}

}  // namespace braid
