#include "data/validation_sets.h"

#include <algorithm>

namespace braid {
namespace {

constexpr const char* kNameCharacters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
constexpr std::size_t kLongestName = 64;

// It is part of file names, and a key of config.yaml.
bool is_usable(const std::string& name) {
  const bool first_is_good = !name.empty() && name.front() != '-' && name.front() != '_';
  return first_is_good && name.size() <= kLongestName && name != "null" && name != "Null" &&
         name != "NULL" && name.find_first_not_of(kNameCharacters) == std::string::npos;
}

std::vector<std::string> read_paths(const ConfigNode& node,
                                    const std::string& path,
                                    ConfigPlaces& places) {
  std::vector<std::string> paths;
  config_detail::read_value(node, path, {}, places, paths);
  return paths;
}

}  // namespace

ValidationSets::ValidationSets(std::vector<std::string> paths) {
  if (!paths.empty()) {
    sets_.push_back({"", std::move(paths), {}});
  }
}

std::vector<std::string> ValidationSets::names() const {
  std::vector<std::string> names;
  for (const auto& set : sets_) {
    if (!set.name.empty()) {
      names.push_back(set.name);
    }
  }
  return names;
}

ValidationSets ValidationSets::from_config(const ConfigNode& node,
                                           const std::string& path,
                                           ConfigPlaces& places) {
  if (node.kind != ConfigNode::Kind::kMapping) {
    return read_paths(node, path, places);
  }
  if (is_task(node)) {
    fail_at(path, node, "is a task; give the set a name: {recall: {task: recall, ...}}");
  }
  std::vector<ValidationSet> sets;
  for (const auto& [name, value] : node.entries) {
    if (!is_usable(name)) {
      fail_at(path,
              value,
              text("'",
                   name,
                   "' cannot be the name of a validation set; expected 1 to ",
                   kLongestName,
                   " letters, digits, '-' and '_', the first a letter or digit"));
    }
    const auto where = config_detail::join_path(path, name);
    if (is_task(value)) {
      auto [task, weight] = read_task(value, where, places);
      if (weight) {
        fail_at(config_detail::join_path(where, "weight"),
                value,
                "is of a source in data.train; sets are judged apart, each as a whole");
      }
      sets.push_back({name, {}, std::move(task)});
      continue;
    }
    const bool single = value.kind == ConfigNode::Kind::kScalar;
    auto paths = single ? std::vector{read_text(value, where)} : read_paths(value, where, places);
    if (paths.empty()) {
      fail_at(where, value, "names no text; expected a path or a list of paths");
    }
    places.add(where, value.place);
    sets.push_back({name, std::move(paths), {}});
  }
  return ValidationSets(std::move(sets));
}

ConfigNode ValidationSets::to_config() const {
  const auto list_of = [](const std::vector<std::string>& paths) {
    std::vector<ConfigNode> items;
    std::ranges::transform(paths, std::back_inserter(items), &ConfigNode::text);
    return ConfigNode::sequence(std::move(items));
  };
  if (names().empty()) {
    return list_of(sets_.empty() ? std::vector<std::string>() : sets_.front().paths);
  }
  std::vector<ConfigNode::Entry> entries;
  for (const auto& [name, paths, task] : sets_) {
    entries.push_back({name, task ? braid::to_config(WrittenTask{*task, {}}) : list_of(paths)});
  }
  return ConfigNode::mapping(std::move(entries));
}

}  // namespace braid
