#pragma once
// Recipes of other trainers (Axolotl, LLaMA-Factory) as configurations of Braid.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace braid {

struct RecipeOptions {
  /// Processes that the recipe ran on, each with micro batches of its own.
  int64_t processes = 1;
};

/// A key of a recipe, or an item within it, and what was to say of it.
struct RecipeRemark {
  std::string key;    ///< "datasets[0].type"
  std::string place;  ///< "recipe.yaml:12"; of a key that the recipe leaves out the file alone
  std::string text;   ///< Braid's keys, or why there are none
};

struct ImportedRecipe {
  std::string framework;  ///< "Axolotl" or "LLaMA-Factory"
  /// A run's configuration, with what was not translated as comments at its head.
  std::string yaml;
  std::vector<RecipeRemark> translated;
  std::vector<RecipeRemark> not_translated;  ///< at all, or in part; or is not known
  std::vector<std::string> unneeded;         ///< keys that change nothing of the result
};

/// Translates a recipe, which is known by its key base_model or model_name_or_path. Values that the
/// recipe leaves out are the other framework's, where they differ from Braid's. Paths stay as they
/// are; LLaMA-Factory's names of data sets are looked up in its dataset_info.json. The result is
/// read as `train` reads it. Throws Error for a file that is no such recipe, and with the recipe's
/// file and line for a value that Braid does not accept.
ImportedRecipe import_recipe(const std::filesystem::path& path, const RecipeOptions& options = {});

/// A line of the table of what is translated.
struct RecipeRow {
  std::string framework, key, ours, how;
};
std::vector<RecipeRow> recipe_rows();

}  // namespace braid
