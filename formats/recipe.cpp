#include "formats/recipe.h"

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "formats/recipe_translation.h"
#include "run/config.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

struct Framework {
  const char* name;
  const char* sign;  ///< the key by which its recipes are known
  std::span<const RecipeKey> (*keys)();
  const char* too_long;  ///< what it does with samples beyond the length
};
constexpr Framework kFrameworks[] = {
    {"Axolotl", "base_model", axolotl_keys, "drop"},
    {"LLaMA-Factory", "model_name_or_path", llama_factory_keys, "cut"},
};

/// What those trainers never do, and Braid does unless it is told.
constexpr const char* kNeverThere[] = {
    "loss.mtp_weight", "loss.mtp_decay_weight", "loss.balance_weight", "loss.bias_update_speed"};

const Framework& framework_of(const ConfigNode& recipe, const fs::path& path) {
  for (const auto& framework : kFrameworks) {
    if (recipe.find(framework.sign) != nullptr) {
      return framework;
    }
  }
  fail(path.string(),
       ": is no recipe that Braid translates: it has neither base_model (Axolotl) nor "
       "model_name_or_path (LLaMA-Factory)");
}

void translate(const RecipeKey& key, Translation& to, ImportedRecipe& result) {
  const auto* node = to.find(key.key);
  switch (key.kind) {
    case RecipeKeyKind::kCopied:
      if (node != nullptr) {
        to.set(key.ours, unquoted(*node));
      } else if (key.if_absent != nullptr && !to.has(key.ours)) {
        to.set(key.ours, ConfigNode::plain(key.if_absent));
      }
      break;
    case RecipeKeyKind::kTranslated:
      if (key.translate != nullptr) {
        key.translate(to, key, node);
      }
      break;
    case RecipeKeyKind::kOff:
      if (node != nullptr && !is_off(*node)) {
        to.leave(key.key, node, key.how);
      }
      return;
    case RecipeKeyKind::kUnneeded:
      if (node != nullptr) {
        result.unneeded.emplace_back(key.key);
      }
      return;
  }
  if (node != nullptr && !to.has_left(key.key)) {
    const std::string how = *key.ours == 0 ? key.how : key.ours;
    result.translated.push_back({key.key, node->place, how});
  }
}

void leave_unknown(std::span<const RecipeKey> keys, Translation& to) {
  for (const auto& [name, value] : to.recipe().entries) {
    const bool known =
        std::ranges::any_of(keys, [&name = name](const RecipeKey& key) { return name == key.key; });
    if (!known && !is_nothing(value)) {
      to.leave(name, &value, "is a key that Braid's table does not have");
    }
  }
}

// Sections in the order of a run's configuration.
ConfigNode ordered(const ConfigNode& tree) {
  config_detail::KeyCollector sections;
  RunConfig::fields(sections);
  auto entries = tree.entries;
  std::ranges::stable_sort(entries, {}, [&](const ConfigNode::Entry& entry) {
    return std::ranges::find(sections.keys, entry.key) - sections.keys.begin();
  });
  auto result = ConfigNode::mapping(std::move(entries));
  result.place = tree.place;
  return result;
}

std::string one_line(std::string words) {
  std::ranges::replace(words, '\n', ' ');
  return words;
}

std::string head(const ImportedRecipe& recipe, const fs::path& path) {
  auto result = text("# From the ", recipe.framework, " recipe ", path.filename().string(), ".\n");
  if (!recipe.not_translated.empty()) {
    result += "# Not translated, or in part:\n";
  }
  for (const auto& [key, place, words] : recipe.not_translated) {
    result += one_line(text("#   ", key, ": ", words)) + "\n";
  }
  return result;
}

}  // namespace

ImportedRecipe import_recipe(const fs::path& path, const RecipeOptions& options) {
  const auto recipe = parse_yaml(read_file(path), path.string());
  require(recipe.kind == ConfigNode::Kind::kMapping,
          path.string(),
          ": expected keys with values, the YAML of Axolotl or LLaMA-Factory");
  const auto& framework = framework_of(recipe, path);
  ImportedRecipe result;
  result.framework = framework.name;
  Translation to(recipe, path, options);
  for (const auto& key : framework.keys()) {
    translate(key, to, result);
  }
  leave_unknown(framework.keys(), to);
  if (!to.has("data.too_long")) {
    to.set_text("data.too_long", framework.too_long);
  }
  for (const char* key : kNeverThere) {
    to.set_number(key, 0);
  }
  if (!to.has("schedule.min_ratio")) {
    to.set_number("schedule.min_ratio", 0);
  }
  result.not_translated = to.left();
  const auto tree = ordered(to.tree());
  RunConfig config;
  ConfigPlaces places;
  config_detail::read_value(tree, "", {}, places, config);
  result.yaml = head(result, path) + yaml_text(tree);
  return result;
}

std::vector<RecipeRow> recipe_rows() {
  std::vector<RecipeRow> rows;
  for (const auto& framework : kFrameworks) {
    for (const auto& key : framework.keys()) {
      rows.push_back({framework.name, key.key, key.ours, key.how});
    }
  }
  return rows;
}

}  // namespace braid
