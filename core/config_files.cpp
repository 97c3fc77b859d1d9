// Files, `base:` and overrides: everything that decides which value of a key counts.

#include <algorithm>
#include <filesystem>

#include "core/config_edit.h"
#include "core/config_tree.h"
#include "core/error.h"
#include "core/file.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

// `open` holds the files being read, outermost first, to notice a cycle.
ConfigNode read_tree(const fs::path& path, std::vector<fs::path>& open) {
  const std::string source = path.string();
  auto tree = parse_yaml(read_file(path), source);
  require(tree.kind != ConfigNode::Kind::kNull,
          source,
          ": is empty; expected sections such as 'model:'");
  require(tree.kind == ConfigNode::Kind::kMapping,
          tree.place,
          ": expected a mapping ('key: value' lines), got ",
          described(tree));
  const auto base = std::find_if(tree.entries.begin(), tree.entries.end(), [](const auto& entry) {
    return entry.key == "base";
  });
  if (base == tree.entries.end()) {
    return tree;
  }
  const ConfigNode node = base->value;
  tree.entries.erase(base);
  require(node.kind == ConfigNode::Kind::kScalar && !node.scalar.empty(),
          "base (",
          node.place,
          "): expected the path of another YAML file, got ",
          described(node));
  const auto base_path = (path.parent_path() / node.scalar).lexically_normal();
  std::error_code unreadable;  // such as a name that is too long
  require(fs::exists(base_path, unreadable),
          "base (",
          node.place,
          "): no such file: ",
          base_path.string(),
          " (paths are relative to the file that names them)");
  open.push_back(fs::canonical(path));
  require(std::find(open.begin(), open.end(), fs::canonical(base_path)) == open.end(),
          "base (",
          node.place,
          "): ",
          base_path.string(),
          " is being read already; files cannot inherit in a circle");
  auto merged = read_tree(base_path, open);
  open.pop_back();
  merge_config(merged, std::move(tree));
  return merged;
}

void set_places(ConfigNode& node, const std::string& place) {
  node.place = place;
  for (auto& item : node.items) {
    set_places(item, place);
  }
  for (auto& entry : node.entries) {
    set_places(entry.value, place);
  }
}

// A value is YAML. Signs that begin no value of a single line there (directives, tags, anchors,
// comments, blocks, the marks of documents) begin plain text here: `--set data.x=%` means "%".
ConfigNode override_value(const std::string& value, const std::string& source) {
  const bool is_mark = value.starts_with("---") || value.starts_with("...");
  if (is_mark || value.find_first_of("%@`#&*!|>") == 0) {
    auto node = ConfigNode::text(value);
    node.quoted = true;
    return node;
  }
  return parse_yaml(value, source);
}

// "a.b=value" as the tree {a: {b: value}}.
ConfigNode override_tree(const std::string& assignment) {
  const auto equals = assignment.find('=');
  require(equals != std::string::npos,
          "--set ",
          assignment,
          ": expected the form --set a.b=c, e.g. --set run.seed=1");
  auto tree = override_value(assignment.substr(equals + 1), "--set " + assignment);
  const auto path = assignment.substr(0, equals);
  require(is_key_path(path),
          "--set ",
          assignment,
          ": expected the form --set a.b=c, with a key's path before the '='");
  tree = tree_with(path, std::move(tree));
  set_places(tree, "--set");
  return tree;
}

}  // namespace

ConfigNode read_config_tree(const std::string& path,
                            const std::vector<std::string>& overrides,
                            const std::vector<std::string>& overlays) {
  std::vector<fs::path> open;
  auto tree = read_tree(path, open);
  for (const auto& overlay : overlays) {
    std::error_code unreadable;
    require(overlay.find('=') == std::string::npos || fs::exists(overlay, unreadable),
            overlay,
            ": no such file; the value of a key is given by --set ",
            overlay,
            ", with one --set for each key");
    merge_config(tree, read_tree(overlay, open));
  }
  for (const auto& assignment : overrides) {
    merge_config(tree, override_tree(assignment));
  }
  return tree;
}

ConfigNode read_overrides(const std::vector<std::string>& overrides) {
  auto tree = ConfigNode::mapping({});
  for (const auto& assignment : overrides) {
    merge_config(tree, override_tree(assignment));
  }
  return tree;
}

}  // namespace braid
