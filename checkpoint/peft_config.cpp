#include "checkpoint/peft_config.h"

#include <algorithm>
#include <cmath>
#include <memory>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "checkpoint/strict_json.h"
#include "core/error.h"
#include "core/file.h"

namespace braid {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// What changes the result and is not implemented, and what to do about it.
struct NotImplemented {
  const char* key;
  const char* meaning;
};
constexpr NotImplemented kNotImplemented[] = {
    {"use_qalora", "QALoRA"},
    {"use_bdlora", "block-diagonal LoRA"},
    {"lora_bias", "biases of adapters"},
    {"fan_in_fan_out", "matrices stored [in, out]"},
    {"modules_to_save", "modules that are trained whole"},
    {"trainable_token_indices", "trained rows of the embedding"},
    {"layer_replication", "replicated layers"},
    {"alora_invocation_tokens", "adapters that a token switches on"},
    {"arrow_config", "adapters that a router chooses"},
    {"kasa_config", "KaSA"},
    {"monteclora_config", "MonteCLoRA"},
    {"velora_config", "VeLoRA"},
};

// How the initial values came about, where training runs, and other things that the weights of a
// finished adapter do not depend on.
constexpr const char* kPassedOver[] = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "target_parameters",
    "task_type",
    "use_dora",
    "use_rslora",
};

// Those of init_lora_weights that leave the base as it is.
constexpr const char* kPlainInitial[] = {"gaussian", "eva", "orthogonal"};

bool says_nothing(const json& value) {
  return value.is_null() || value == false || (value.is_structured() && value.empty()) ||
         (value.is_string() && value.get<std::string>().empty());
}

std::string own_text(const json& value) {
  const auto whole = value.dump(-1, ' ', false, json::error_handler_t::replace);
  constexpr std::size_t kMost = 60;
  return whole.size() > kMost ? whole.substr(0, kMost) + "..." : whole;
}

// Whether all of `path`, or what follows one of its dots, is an instance of the pattern, as PEFT
// decides it: (.*\.)?(pattern)$.
bool is_instance(const std::string& pattern, const std::string& path, const std::string& where) {
  const auto whole = text("^(?:.*\\.)?(?:", pattern, ")$");
  int code = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_code, void (*)(pcre2_code*)> compiled(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(whole.data()),
                    whole.size(),
                    PCRE2_NEVER_UTF | PCRE2_NEVER_BACKSLASH_C,
                    &code,
                    &offset,
                    nullptr),
      pcre2_code_free);
  require(compiled != nullptr, where, ": '", pattern, "' is no regular expression");
  const std::unique_ptr<pcre2_match_context, void (*)(pcre2_match_context*)> context(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  constexpr uint32_t kMostSteps = 1'000'000;
  pcre2_set_match_limit(context.get(), kMostSteps);
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
      pcre2_match_data_create_from_pattern(compiled.get(), nullptr), pcre2_match_data_free);
  code = pcre2_match(compiled.get(),
                     reinterpret_cast<PCRE2_SPTR>(path.data()),
                     path.size(),
                     0,
                     0,
                     match.get(),
                     context.get());
  require(code >= 0 || code == PCRE2_ERROR_NOMATCH,
          where,
          ": matching the regular expression '",
          pattern,
          "' takes too long; write the paths out");
  return code >= 0;
}

}  // namespace

PeftConfig::PeftConfig(const std::filesystem::path& file) : file_(file.string()) {
  const auto contents = read_file(file);
  const auto strict = parse_strict_json(contents, file_);
  require(strict.is_object(), file_, ": is no JSON object");
  require_implemented(strict);
  const auto json = ordered_json::parse(contents);  // the first pattern that matches counts
  for (const char* key : {"r", "lora_alpha"}) {
    json_field(strict, key, file_);
  }
  rank_ = whole_rank(json.at("r"), "r");
  alpha_ = positive(json.at("lora_alpha"), "lora_alpha");
  rslora_ = flag(json, "use_rslora");
  dora_ = flag(json, "use_dora");
  rank_patterns_ = patterns(json, "rank_pattern");
  for (const auto& [pattern, value] : rank_patterns_) {
    whole_rank(json.at("rank_pattern").at(pattern), text("rank_pattern.", pattern));
  }
  alpha_patterns_ = patterns(json, "alpha_pattern");
  if (json.contains("base_model_name_or_path") && json.at("base_model_name_or_path").is_string()) {
    base_model_ = json.at("base_model_name_or_path").get<std::string>();
  }
  if (json.contains("target_parameters") && !json.at("target_parameters").is_null()) {
    const auto& list = json.at("target_parameters");
    const bool texts = list.is_array() && std::ranges::all_of(list, [](const ordered_json& item) {
                         return item.is_string();
                       });
    require(texts, file_, ": target_parameters is no list of texts");
    target_parameters_ = list.get<std::vector<std::string>>();
  }
}

void PeftConfig::require_implemented(const json& json) {
  const auto type = json_field(json, "peft_type", file_);
  require(type == "LORA",
          file_,
          ": peft_type is ",
          own_text(type),
          ", but Braid reads adapters of the type \"LORA\" only");
  for (const auto& [key, meaning] : kNotImplemented) {
    require(!json.contains(key) || says_nothing(json.at(key)),
            file_,
            ": ",
            key,
            " is ",
            json.contains(key) ? own_text(json.at(key)) : std::string(),
            " (",
            meaning,
            "), which Braid does not read; merge the adapter into its base with PEFT "
            "(merge_and_unload) and open the result");
  }
  if (json.contains("bias")) {
    require(json.at("bias") == "none",
            file_,
            ": bias is ",
            own_text(json.at("bias")),
            ", but Braid implements \"none\" only: DeepSeek-V4's matrices have no biases");
  }
  if (json.contains("init_lora_weights") && json.at("init_lora_weights").is_string()) {
    const auto initial = json.at("init_lora_weights").get<std::string>();
    require(std::ranges::find(kPlainInitial, initial) != std::ranges::end(kPlainInitial),
            file_,
            ": init_lora_weights is \"",
            initial,
            "\", which changes the base's weights, too; save the adapter as a plain one (PEFT: "
            "save_pretrained(path_initial_model_for_weight_conversion=...))");
  }
  for (const auto& entry : json.items()) {
    const std::string& key = entry.key();
    const bool known =
        std::ranges::find(kPassedOver, key) != std::ranges::end(kPassedOver) ||
        std::ranges::any_of(kNotImplemented, [&key](const auto& one) { return key == one.key; });
    if (!known && !says_nothing(entry.value())) {
      unknown_keys_.push_back(key);
    }
  }
}

bool PeftConfig::flag(const ordered_json& json, const char* key) const {
  if (!json.contains(key) || json.at(key).is_null()) {
    return false;
  }
  require(json.at(key).is_boolean(), file_, ": ", key, " is neither true nor false");
  return json.at(key).get<bool>();
}

int64_t PeftConfig::whole_rank(const ordered_json& value, const std::string& key) const {
  constexpr int64_t kMost = 1 << 20;
  require(value.is_number_integer() && value >= 1 && value <= kMost,
          file_,
          ": ",
          key,
          " is ",
          own_text(value),
          "; expected a whole number from 1 to ",
          kMost);
  return value.get<int64_t>();
}

double PeftConfig::positive(const ordered_json& value, const std::string& key) const {
  require(value.is_number() && value.get<double>() > 0 && std::isfinite(value.get<double>()),
          file_,
          ": ",
          key,
          " is no number above 0");
  return value.get<double>();
}

std::vector<PeftConfig::Pattern> PeftConfig::patterns(const ordered_json& json,
                                                      const char* key) const {
  if (!json.contains(key) || json.at(key).is_null()) {
    return {};
  }
  require(json.at(key).is_object(), file_, ": ", key, " is no object of patterns and numbers");
  std::vector<Pattern> result;
  for (const auto& [pattern, value] : json.at(key).items()) {
    result.emplace_back(pattern, positive(value, text(key, ".", pattern)));
  }
  return result;
}

const PeftConfig::Pattern* PeftConfig::pattern_for(const std::vector<Pattern>& patterns,
                                                   const std::string& path) const {
  const auto found = std::ranges::find_if(
      patterns, [&](const Pattern& pattern) { return is_instance(pattern.first, path, file_); });
  return found == patterns.end() ? nullptr : &*found;
}

int64_t PeftConfig::rank_of(const std::string& path) const {
  const auto* pattern = pattern_for(rank_patterns_, path);
  return pattern != nullptr ? static_cast<int64_t>(pattern->second) : rank_;
}

double PeftConfig::alpha_of(const std::string& path) const {
  const auto* pattern = pattern_for(alpha_patterns_, path);
  return pattern != nullptr ? pattern->second : alpha_;
}

bool PeftConfig::has_rank_pattern_for(const std::string& path) const {
  return pattern_for(rank_patterns_, path) != nullptr;
}

bool PeftConfig::targets_parameter(std::string_view path) const {
  return std::ranges::any_of(target_parameters_, [&](const std::string& target) {
    return path == target || path.ends_with("." + target);
  });
}

double PeftConfig::scale(double alpha, int64_t rank) const {
  const auto r = static_cast<double>(rank);
  return alpha / (rslora_ ? std::sqrt(r) : r);
}

}  // namespace braid
