#pragma once
// What the tables of recipe_axolotl.cpp and recipe_llama_factory.cpp are made of.
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config_tree.h"
#include "formats/recipe.h"

namespace braid {

class Translation;

enum class RecipeKeyKind {
  kCopied,      ///< the value as it is
  kTranslated,  ///< by `translate`, which is called with null where the key is absent; without one,
                ///< together with another key
  kOff,         ///< Braid does not have it: only values such as false and 0 lose nothing
  kUnneeded,    ///< changes nothing of the result
};

/// A word of a recipe and Braid's, for the same.
struct SameWord {
  const char* theirs;
  const char* ours;
};

// What many rows say.
inline constexpr const char* kNoKey = "";  ///< RecipeKey::ours
inline constexpr const char* kHarmless = "changes nothing of the result";
inline constexpr const char* kRanksText =
    "ranks are started by mpirun and divide the work as parallel.* says";

/// A row of a framework's table.
struct RecipeKey {
  const char* key;
  RecipeKeyKind kind;
  const char* ours = "";  ///< Braid's key
  const char* how = "";   ///< how values are converted, or why there is nothing to convert
  const char* if_absent = nullptr;  ///< kCopied: the other framework's default
  void (*translate)(Translation&, const RecipeKey&, const ConfigNode*) = nullptr;
};

std::span<const RecipeKey> axolotl_keys();
std::span<const RecipeKey> llama_factory_keys();

/// A recipe and what has become of it so far.
class Translation {
 public:
  Translation(ConfigNode recipe, std::filesystem::path path, const RecipeOptions& options)
      : recipe_(std::move(recipe)), path_(std::move(path)), options_(options) {}

  const ConfigNode& recipe() const { return recipe_; }
  const std::filesystem::path& path() const { return path_; }
  int64_t processes() const { return options_.processes; }

  /// Null where the recipe does not have the key, or leaves its value open.
  const ConfigNode* find(const char* key) const;
  std::optional<double> number(const char* key) const;
  std::optional<std::string> word(const char* key) const;
  bool is_on(const char* key) const;
  /// Optimizer steps of the recipe, where it counts them.
  std::optional<int64_t> steps() const;

  /// Sets our key ("optimizer.adamw.beta1").
  void set(std::string_view ours, ConfigNode value);
  void set_text(std::string_view ours, const std::string& word);
  void set_number(std::string_view ours, double value);
  bool has(std::string_view ours) const;
  const ConfigNode& tree() const { return tree_; }

  /// Says that this (a key of the recipe, or a part of one) was not translated, and why.
  void leave(const std::string& key, const ConfigNode* node, const std::string& why);
  /// Whether something of the key was not translated.
  bool has_left(std::string_view key) const;
  const std::vector<RecipeRemark>& left() const { return left_; }

 private:
  ConfigNode recipe_;
  std::filesystem::path path_;
  RecipeOptions options_;
  ConfigNode tree_ = ConfigNode::mapping({});
  std::vector<RecipeRemark> left_;
};

/// No value: nothing, "~", "null" or "none".
bool is_nothing(const ConfigNode& node);
/// A value that asks for nothing: also false, 0, and an empty list.
bool is_off(const ConfigNode& node);
/// The same without quotes, for numbers that recipes write as text.
ConfigNode unquoted(ConfigNode node);

// Conversions that both frameworks have.

/// run.init_from, and the architecture from there.
void translate_base(Translation& to, const RecipeKey& key, const ConfigNode* node);
/// run.output_dir and run.name.
void translate_output(Translation& to, const RecipeKey& key, const ConfigNode* node);
/// train.micro_batch_size and train.global_batch_size.
void translate_batch(Translation& to, const ConfigNode* micro, const char* accumulation);
void translate_epochs(Translation& to, const RecipeKey& key, const ConfigNode* node);
void translate_optimizer(Translation& to, const RecipeKey& key, const ConfigNode* node);
void translate_schedule(Translation& to, const char* name, const std::string& if_absent);
/// schedule.warmup_steps from a count or `if_absent`, or schedule.warmup_share.
void translate_warmup(Translation& to, const char* steps, const char* ratio, int64_t if_absent);
/// A count of steps, or a share of all steps, for `key.ours`.
void translate_interval(Translation& to, const RecipeKey& key, const ConfigNode* node);
void translate_bfloat16(Translation& to, const RecipeKey& key, const ConfigNode* node);
/// data.validation_fraction from a share; a count is left.
void translate_validation(Translation& to, const RecipeKey& key, const ConfigNode* node);
/// Names of modules, as PEFT matches them, to patterns of release names.
void translate_targets(Translation& to, const RecipeKey& key, const ConfigNode* node);
/// adapter.targets for every linear layer of Hugging Face's model.
void translate_all_linear(Translation& to, const RecipeKey& key, const ConfigNode* node);
/// Whether what is not an answer is trained, too.
void translate_trained_inputs(Translation& to, const RecipeKey& key, const ConfigNode* node);
void translate_steps(Translation& to, const RecipeKey& key, const ConfigNode* node);
void translate_recompute(Translation& to, const RecipeKey& key, const ConfigNode* node);
void translate_best(Translation& to, const RecipeKey& key, const ConfigNode* node);
/// optimizer.groups that gives B another learning rate.
void translate_lora_plus(Translation& to, const RecipeKey& key, const ConfigNode* node);
/// A template other than DeepSeek-V4's is left.
void translate_template(Translation& to, const RecipeKey& key, const ConfigNode* node);

}  // namespace braid
