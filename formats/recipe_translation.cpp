#include "formats/recipe_translation.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "core/config_value.h"
#include "core/error.h"
#include "core/parameter_names.h"
#include "model/lora.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTargets = "adapter.targets";
constexpr const char* kWeightSuffix = ".weight";

constexpr SameWord kSchedules[] = {{"linear", "linear"},
                                   {"cosine", "cosine"},
                                   {"cosine_with_min_lr", "cosine"},
                                   {"constant", "constant"},
                                   {"constant_with_warmup", "constant"}};

// All of them AdamW; some keep its state in fewer bits, which Braid does not.
constexpr const char* kAdamW[] = {"adamw",
                                  "adamw_torch",
                                  "adamw_torch_fused",
                                  "adamw_hf",
                                  "adamw_apex_fused",
                                  "adamw_anyprecision",
                                  "adamw_bnb_8bit",
                                  "adamw_8bit",
                                  "adamw_torch_8bit",
                                  "adamw_torch_4bit",
                                  "paged_adamw",
                                  "paged_adamw_8bit",
                                  "paged_adamw_32bit"};

std::string lower(std::string word) {
  std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
  return word;
}

// The module that holds a matrix, as Hugging Face names it behind "model.layers.N.".
std::string module_of(const ParameterKind& kind) {
  std::string name(kind.hf_name);
  if (name.ends_with(kWeightSuffix)) {
    name.resize(name.size() - std::string_view(kWeightSuffix).size());
  }
  return name;
}

std::string pattern_of(const ParameterKind& kind) {
  return (kind.place == ParameterPlace::kTop ? "" : "layers.*.") + std::string(kind.name);
}

// As PEFT takes it: the whole name, or what is behind a dot.
std::vector<std::string> patterns_of(const std::string& target) {
  std::vector<std::string> result;
  for (const auto& kind : parameter_kinds()) {
    const auto module = module_of(kind);
    if (!module.empty() && (kind.is_linear() || kind.role == ParameterRole::kMatrix) &&
        (module == target || module.ends_with("." + target))) {
      result.push_back(pattern_of(kind));
    }
  }
  return result;
}

std::vector<std::string> words_of(const ConfigNode& node) {
  std::vector<std::string> result;
  if (node.kind == ConfigNode::Kind::kSequence) {
    for (const auto& item : node.items) {
      result.push_back(item.scalar);
    }
    return result;
  }
  for (std::size_t begin = 0; begin <= node.scalar.size();) {
    const auto end = std::min(node.scalar.find(',', begin), node.scalar.size());
    auto word = node.scalar.substr(begin, end - begin);
    word.erase(0, word.find_first_not_of(' '));
    word.erase(word.find_last_not_of(' ') + 1);
    if (!word.empty()) {
      result.push_back(word);
    }
    begin = end + 1;
  }
  return result;
}

void set_words(Translation& to, const char* ours, const std::vector<std::string>& words) {
  std::vector<ConfigNode> items;
  for (const auto& word : words) {
    items.push_back(ConfigNode::text(word));
  }
  to.set(ours, ConfigNode::sequence(std::move(items)));
}

}  // namespace

bool is_nothing(const ConfigNode& node) {
  constexpr std::string_view kNothing[] = {"", "~", "null", "none"};
  return node.kind == ConfigNode::Kind::kNull ||
         (node.kind == ConfigNode::Kind::kScalar &&
          std::ranges::find(kNothing, lower(node.scalar)) != std::ranges::end(kNothing));
}

bool is_off(const ConfigNode& node) {
  constexpr std::string_view kOff[] = {"false", "no", "off", "0", "0.0"};
  return is_nothing(node) ||
         (node.kind == ConfigNode::Kind::kScalar &&
          std::ranges::find(kOff, lower(node.scalar)) != std::ranges::end(kOff)) ||
         (node.kind == ConfigNode::Kind::kSequence && node.items.empty()) ||
         (node.kind == ConfigNode::Kind::kMapping && node.entries.empty());
}

ConfigNode unquoted(ConfigNode node) {
  node.quoted = false;
  return node;
}

const ConfigNode* Translation::find(const char* key) const {
  const auto* node = recipe_.find(key);
  return node == nullptr || is_nothing(*node) ? nullptr : node;
}

std::optional<double> Translation::number(const char* key) const {
  const auto* node = find(key);
  return node == nullptr ? std::nullopt : std::optional(read_real(unquoted(*node), key, {}));
}

std::optional<std::string> Translation::word(const char* key) const {
  const auto* node = find(key);
  return node == nullptr ? std::nullopt : std::optional(read_text(*node, key));
}

bool Translation::is_on(const char* key) const {
  const auto* node = find(key);
  return node != nullptr && !is_off(*node);
}

std::optional<int64_t> Translation::steps() const {
  const auto steps = number("max_steps");
  return steps && *steps > 0 ? std::optional(std::llround(*steps)) : std::nullopt;
}

void Translation::set(std::string_view ours, ConfigNode value) {
  auto* node = &tree_;
  for (std::size_t begin = 0;;) {
    const auto dot = ours.find('.', begin);
    const auto key = std::string(ours.substr(begin, dot - begin));
    const auto found = std::ranges::find(node->entries, key, &ConfigNode::Entry::key);
    const bool is_new = found == node->entries.end();
    auto* child =
        is_new ? &node->entries.emplace_back(ConfigNode::Entry{key, ConfigNode::mapping({})}).value
               : &found->value;
    if (is_new) {
      child->place = path_.string();
    }
    if (dot == std::string_view::npos) {
      if (value.place.empty()) {
        value.place = path_.string();
      }
      *child = std::move(value);
      return;
    }
    node = child;
    begin = dot + 1;
  }
}

void Translation::set_text(std::string_view ours, const std::string& word) {
  set(ours, ConfigNode::text(word));
}

void Translation::set_number(std::string_view ours, double value) {
  set(ours, ConfigNode::plain(real_text(value)));
}

bool Translation::has(std::string_view ours) const {
  const auto* node = &tree_;
  for (std::size_t begin = 0; node != nullptr;) {
    const auto dot = ours.find('.', begin);
    node = node->find(ours.substr(begin, dot - begin));
    if (dot == std::string_view::npos) {
      break;
    }
    begin = dot + 1;
  }
  return node != nullptr;
}

void Translation::leave(const std::string& key, const ConfigNode* node, const std::string& why) {
  left_.push_back({key, node == nullptr ? path_.string() : node->place, why});
}

bool Translation::has_left(std::string_view key) const {
  return std::ranges::any_of(left_, [&](const RecipeRemark& remark) {
    return remark.key == key || remark.key.starts_with(std::string(key) + "[");
  });
}

void translate_base(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr) {
    return;
  }
  const auto folder = read_text(*node, key.key);
  to.set_text("run.init_from", folder);
  to.set_text("model", "from_base");
  if (!fs::is_directory(folder)) {
    to.leave(key.key,
             node,
             text("'",
                  folder,
                  "' is no folder here; Braid downloads nothing: fetch the model and set "
                  "run.init_from to its folder"));
  }
}

void translate_output(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  auto folder = node == nullptr ? fs::path() : fs::path(read_text(*node, key.key));
  folder =
      folder.has_filename() ? folder.lexically_normal() : folder.parent_path().lexically_normal();
  const bool names = folder.has_filename() && folder != "." && folder != "..";
  to.set_text("run.name", (names ? folder.filename() : to.path().stem()).string());
  if (names && folder.has_parent_path()) {
    to.set_text("run.output_dir", folder.parent_path().string());
  }
}

void translate_batch(Translation& to, const ConfigNode* micro, const char* accumulation) {
  const double rows = micro == nullptr ? 1 : read_real(unquoted(*micro), "micro batch", {});
  const double times = to.number(accumulation).value_or(1);
  to.set_number("train.micro_batch_size", rows);
  to.set_number("train.global_batch_size", rows * times * static_cast<double>(to.processes()));
}

void translate_epochs(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (to.steps() || node == nullptr) {
    return;  // which decide
  }
  const auto* data = to.tree().find("data");
  const auto* sources = data == nullptr ? nullptr : data->find("train");
  const bool has_weights =
      sources != nullptr && std::ranges::any_of(sources->items, [](const ConfigNode& source) {
        return source.find("weight") != nullptr;
      });
  if (has_weights) {
    to.leave(key.key,
             node,
             text(node->scalar,
                  " epochs: sources with weights (data.train) come to their ends at different "
                  "times; set train.max_steps"));
    return;
  }
  to.set_number(key.ours, read_real(unquoted(*node), key.key, {}));
}

void translate_optimizer(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  const auto name = node == nullptr ? "adamw_torch" : lower(read_text(*node, key.key));
  if (name == "muon") {
    return;  // Braid's own, with AdamW for what is no matrix
  }
  if (std::ranges::find(kAdamW, name) == std::ranges::end(kAdamW)) {
    to.leave(key.key, node, text("'", name, "': Braid has AdamW and Muon; this run takes AdamW"));
  }
  const auto* train = to.tree().find("train");
  const auto* trained = train == nullptr ? nullptr : train->find("parameters");
  if (trained != nullptr && trained->scalar == "lora") {
    return;  // adapters have it by default
  }
  to.set("optimizer.groups",
         ConfigNode::sequence({ConfigNode::mapping(
             {{"match", ConfigNode::text("*")}, {"optimizer", ConfigNode::text("adamw")}})}));
}

void translate_schedule(Translation& to, const char* name, const std::string& if_absent) {
  const auto* node = to.find(name);
  const auto word = node == nullptr ? if_absent : lower(read_text(*node, name));
  const auto same = std::ranges::find(kSchedules, word, &SameWord::theirs);
  if (same == std::ranges::end(kSchedules)) {
    to.leave(name,
             node,
             text("'",
                  word,
                  "': Braid has linear, cosine, constant and sqrt; this run takes ",
                  if_absent));
  }
  to.set_text("schedule.kind", same == std::ranges::end(kSchedules) ? if_absent : same->ours);
}

void translate_warmup(Translation& to, const char* steps, const char* ratio, int64_t if_absent) {
  auto count = to.number(steps);
  auto share = to.number(ratio);
  if (count && *count > 0 && *count < 1) {
    share = count;
    count.reset();
  }
  if (count && (*count > 0 || !share)) {
    to.set_number("schedule.warmup_steps", *count);
  } else if (share && *share > 0) {
    to.set_number("schedule.warmup_share", *share);
  } else {
    to.set_number("schedule.warmup_steps", static_cast<double>(if_absent));
  }
}

void translate_interval(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  const auto value = to.number(key.key);
  if (!value) {
    return;
  }
  if (*value > 0 && *value < 1) {
    if (!to.steps()) {
      to.leave(
          key.key,
          node,
          text(node->scalar,
               " of all steps, which are counted from the data when the run starts (`braid plan` "
               "says how many): set ",
               key.ours,
               " to ",
               node->scalar,
               " of them"));
      return;
    }
    to.set_number(key.ours, std::ceil(*value * static_cast<double>(*to.steps())));
    return;
  }
  to.set(key.ours, unquoted(*node));
}

void translate_bfloat16(Translation& to, const RecipeKey& key, const ConfigNode*) {
  if (to.is_on(key.key)) {
    to.set_text(key.ours, "bfloat16");
  }
}

void translate_validation(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  const double value = to.number(key.key).value_or(0);
  if (value >= 1) {
    to.leave(key.key,
             node,
             text(node->scalar,
                  " samples: Braid takes a share of the documents; set data.validation_fraction, "
                  "or data.validation to a file of its own"));
    return;
  }
  to.set_number(key.ours, value);
}

void translate_targets(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr) {
    return;
  }
  const auto targets = words_of(*node);
  if (targets.size() == 1 && (targets[0] == "all" || targets[0] == "all-linear")) {
    translate_all_linear(to, key, node);
    return;
  }
  std::vector<std::string> patterns, unknown;
  if (const auto* section = to.tree().find("adapter");
      section != nullptr && section->find("targets") != nullptr) {
    patterns = words_of(*section->find("targets"));
  }
  for (const auto& target : targets) {
    const auto matched = patterns_of(target);
    for (const auto& pattern : matched) {
      if (std::ranges::find(patterns, pattern) == patterns.end()) {
        patterns.push_back(pattern);
      }
    }
    if (matched.empty()) {
      unknown.push_back(target);
    }
  }
  if (!unknown.empty()) {
    to.leave(key.key,
             node,
             text(joined(unknown),
                  unknown.size() == 1 ? ": no module" : ": no modules",
                  " of a DeepSeek-V4 model; its attention has q_a_proj, q_b_proj, kv_proj, "
                  "o_a_proj and o_b_proj",
                  patterns.empty() ? "; this run takes adapter.targets: attention" : ""));
  }
  set_words(to, kTargets, patterns.empty() ? LoraTargets().items : patterns);
}

// What PEFT takes for "all-linear", but for the head, which it leaves out, and o_a_proj, on which
// it fails.
void translate_all_linear(Translation& to, const RecipeKey&, const ConfigNode* node) {
  if (node == nullptr || is_off(*node)) {
    return;
  }
  std::vector<std::string> patterns;
  for (const auto& kind : parameter_kinds()) {
    const bool routed = kind.is_expert() || kind.part == ModelPart::kRouter;
    if (kind.is_linear() && !routed && kind.place != ParameterPlace::kTop &&
        !kind.hf_name.empty() && kind.split != RowSplit::kOutputGroups) {
      patterns.push_back(pattern_of(kind));
    }
  }
  set_words(to, kTargets, patterns);
}

void translate_lora_plus(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr) {
    return;
  }
  to.set("optimizer.groups",
         ConfigNode::sequence({ConfigNode::mapping({{"match", ConfigNode::text("*.lora_B.weight")},
                                                    {"optimizer", ConfigNode::text("adamw")},
                                                    {"learning_rate_scale", unquoted(*node)}})}));
  static_cast<void>(key);
}

void translate_template(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr) {
    return;
  }
  const auto name = lower(node->scalar);
  if (!name.starts_with("deepseek") && name != "tokenizer_default") {
    to.leave(key.key,
             node,
             text("'",
                  node->scalar,
                  "': conversations are written in DeepSeek-V4's encoding (data.chat_profile), "
                  "whatever the recipe's template is"));
  }
}

void translate_trained_inputs(Translation& to, const RecipeKey& key, const ConfigNode*) {
  if (to.is_on(key.key)) {
    to.set(key.ours,
           ConfigNode::sequence({ConfigNode::text("system"),
                                 ConfigNode::text("user"),
                                 ConfigNode::text("assistant"),
                                 ConfigNode::text("tool")}));
  }
}

void translate_steps(Translation& to, const RecipeKey& key, const ConfigNode*) {
  if (to.steps()) {
    to.set_number(key.ours, static_cast<double>(*to.steps()));
  }
}

void translate_recompute(Translation& to, const RecipeKey& key, const ConfigNode*) {
  if (to.is_on(key.key)) {
    to.set_number(key.ours, 2);
  }
}

void translate_best(Translation& to, const RecipeKey& key, const ConfigNode*) {
  if (to.is_on(key.key)) {
    to.set_number(key.ours, 1);
  }
}

}  // namespace braid
