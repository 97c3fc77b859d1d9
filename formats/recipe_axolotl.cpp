// Axolotl's keys (its documentation's "Config Reference").
#include <algorithm>
#include <filesystem>

#include "core/config_value.h"
#include "core/error.h"
#include "formats/recipe_translation.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using enum RecipeKeyKind;

/// Formats of Braid's for a `type` of Axolotl's.
constexpr SameWord kAxolotlTypes[] = {{"chat_template", "messages"},
                                      {"chat_template.default", "messages"},
                                      {"chat_template.argilla", "preference"},
                                      {"sharegpt", "sharegpt"},
                                      {"alpaca", "alpaca"},
                                      {"completion", "text"},
                                      {"pretrain", "text"}};

// One entry of `datasets`, in Braid's words.
class Dataset {
 public:
  Dataset(Translation& to, const ConfigNode& node, std::string key)
      : to_(to), node_(node), key_(std::move(key)) {}

  std::vector<ConfigNode> sources() {
    if (node_.kind == ConfigNode::Kind::kScalar) {
      return {source(node_, "")};
    }
    std::string format;
    for (const auto& [name, value] : node_.entries) {
      read(name, value, format);
    }
    std::vector<ConfigNode> result;
    if (const auto* files = node_.find("data_files"); files != nullptr && !is_nothing(*files)) {
      for (const auto& file : files->kind == ConfigNode::Kind::kSequence
                                  ? files->items
                                  : std::vector<ConfigNode>{*files}) {
        result.push_back(source(file, format));
      }
    } else if (const auto* path = node_.find("path")) {
      result.push_back(source(*path, format));
    } else {
      to_.leave(key_, &node_, "has no path");
    }
    return result;
  }

 private:
  void read(const std::string& name, const ConfigNode& value, std::string& format) {
    const auto key = key_ + "." + name;
    if (is_nothing(value) || name == "path" || name == "data_files") {
      return;
    }
    if (name == "type") {
      format = format_of(value);
    } else if (name == "field_messages") {
      if (value.scalar != "messages" && value.scalar != "conversations") {
        to_.leave(key, &value, "Braid reads messages (messages) and conversations (sharegpt)");
      } else if (value.scalar == "conversations") {
        format = "sharegpt";
      }
    } else if (name == "message_property_mappings" || name == "message_field_role" ||
               name == "message_field_content") {
      const auto* role = name == "message_property_mappings" ? value.find("role") : &value;
      if (role != nullptr && role->scalar == "from") {
        format = "sharegpt";
      } else if (role != nullptr && name != "message_field_content" && role->scalar != "role") {
        to_.leave(key, &value, "Braid reads role and content, or from and value");
      }
    } else if (name == "roles_to_train" || name == "train_on_eos" || name == "field") {
      const auto ours = name == "field" ? std::string("data.text_key") : "data." + name;
      if (to_.has(ours)) {
        to_.leave(key, &value, "one value holds for all of data.train; that of the first is taken");
      } else {
        to_.set(ours, value);
      }
    } else if (name == "split") {
      if (value.scalar != "train") {
        to_.leave(key, &value, "Braid reads whole files");
      }
    } else if (name == "ds_type") {
      if (value.scalar != "json" && value.scalar != "text") {
        to_.leave(key, &value, "Braid reads text, JSONL and JSON arrays; convert the file");
      }
    } else if (!is_off(value)) {
      to_.leave(key, &value, "no such choice in Braid");
    }
  }

  std::string format_of(const ConfigNode& value) {
    for (const auto& [theirs, ours] : kAxolotlTypes) {
      if (value.scalar == theirs) {
        return ours;
      }
    }
    to_.leave(key_ + ".type",
              &value,
              text(described(value),
                   ": Braid guesses the format from the rows' keys; see "
                   "data.format"));
    return "";
  }

  ConfigNode source(const ConfigNode& path, const std::string& format) {
    if (!fs::exists(path.scalar)) {
      to_.leave(key_ + ".path",
                &path,
                text("'",
                     path.scalar,
                     "' is no file or folder here; Braid downloads nothing: fetch the data as "
                     "JSONL and set the path in data.train"));
    }
    auto text = ConfigNode::text(path.scalar);
    text.place = path.place;
    std::vector<ConfigNode::Entry> entries = {{"path", std::move(text)}};
    if (!format.empty()) {
      entries.push_back({"format", ConfigNode::text(format)});
    }
    auto result = ConfigNode::mapping(std::move(entries));
    result.place = path.place;
    return result;
  }

  Translation& to_;
  const ConfigNode& node_;
  std::string key_;
};

void translate_datasets(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr) {
    return;
  }
  require_list(*node, key.key);
  std::vector<ConfigNode> sources;
  for (std::size_t i = 0; i < node->items.size(); ++i) {
    for (auto& source : Dataset(to, node->items[i], text(key.key, "[", i, "]")).sources()) {
      sources.push_back(std::move(source));
    }
  }
  to.set(key.ours, ConfigNode::sequence(std::move(sources)));
}

void translate_test_datasets(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr) {
    return;
  }
  require_list(*node, key.key);
  std::vector<ConfigNode> paths;
  for (const auto& item : node->items) {
    if (const auto* path = item.find("path")) {
      paths.push_back(ConfigNode::text(path->scalar));
    }
  }
  to.set(key.ours, ConfigNode::sequence(std::move(paths)));
}

void translate_adapter(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  const bool lora = node != nullptr && (node->scalar == "lora" || node->scalar == "qlora");
  if (node != nullptr && !lora) {
    to.leave(key.key, node, text("'", node->scalar, "': Braid has lora; this run trains all"));
  }
  to.set_text(key.ours, lora ? "lora" : "full");
}

void translate_preference(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr) {
    return;
  }
  if (node->scalar != "dpo" && node->scalar != "simpo") {
    to.leave(key.key, node, text("'", node->scalar, "': Braid has dpo"));
    return;
  }
  if (node->scalar == "simpo") {
    to.leave(key.key, node, "'simpo': this run is DPO, against the base, over tokens' means");
    to.set_text("loss.preference_length_normalized", "true");
  }
  to.set_text("loss.objective", "preference");
  to.set_text("data.format", "preference");
}

void translate_text_datasets(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node != nullptr && node->kind != ConfigNode::Kind::kSequence) {
    const auto one = ConfigNode::sequence({*node});
    translate_datasets(to, key, &one);
  } else {
    translate_datasets(to, key, node);
  }
}

void translate_excess(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  const auto word = node == nullptr ? "drop" : node->scalar;
  to.set_text(key.ours, word == "truncate" ? "cut" : word == "raise" ? "error" : word);
}

void translate_packing(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr || is_off(*node)) {
    to.leave(key.key,
             node,
             "off: Braid always packs; train.global_batch_size counts rows of data.seq_len tokens, "
             "not samples");
  }
}

void translate_axolotl_epochs(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  const auto one = ConfigNode::plain("1");
  translate_epochs(to, key, node == nullptr ? &one : node);
}

void translate_axolotl_batch(Translation& to, const RecipeKey&, const ConfigNode* node) {
  translate_batch(to, node, "gradient_accumulation_steps");
}

void translate_axolotl_schedule(Translation& to, const RecipeKey& key, const ConfigNode*) {
  translate_schedule(to, key.key, "cosine");
}

void translate_axolotl_warmup(Translation& to, const RecipeKey& key, const ConfigNode*) {
  constexpr double kShare =
      0.03;  // of all steps, and no more than 100, where the recipe says nothing
  const auto steps = to.steps();
  if (!steps && !to.number(key.key) && !to.number("warmup_ratio")) {
    to.set_number("schedule.warmup_share", kShare);
    return;
  }
  translate_warmup(
      to, key.key, "warmup_ratio", steps ? std::min<int64_t>(100, *steps * 3 / 100) : 100);
}

// clang-format off
constexpr RecipeKey kAxolotlKeys[] = {
    {"base_model", kTranslated, "run.init_from", "and model: from_base", nullptr, translate_base},
    {"output_dir", kTranslated, "run.output_dir, run.name", "its last part is the name", nullptr, translate_output},
    {"seed", kCopied, "run.seed"},

    {"datasets", kTranslated, "data.train", "path, data_files, type and the names of fields as format; roles_to_train, train_on_eos and field for all of them", nullptr, translate_datasets},
    {"pretraining_dataset", kTranslated, "data.train", "the same", nullptr, translate_text_datasets},
    {"test_datasets", kTranslated, "data.validation", "their paths", nullptr, translate_test_datasets},
    {"val_set_size", kTranslated, "data.validation_fraction", "a share; a count is left", nullptr, translate_validation},
    {"sequence_len", kCopied, "data.seq_len"},
    {"excess_length_strategy", kTranslated, "data.too_long", "drop, truncate = cut, raise = error", nullptr, translate_excess},
    {"train_on_inputs", kTranslated, "data.roles_to_train", "true = system, user, assistant, tool", nullptr, translate_trained_inputs},
    {"chat_template", kTranslated, kNoKey, "DeepSeek-V4's, always", nullptr, translate_template},
    {"sample_packing", kTranslated, kNoKey, "always on; documents do not see each other", nullptr, translate_packing},

    {"adapter", kTranslated, "train.parameters", "lora and qlora = lora, none = full", nullptr, translate_adapter},
    {"lora_r", kCopied, "adapter.rank"},
    {"lora_alpha", kCopied, "adapter.alpha"},
    {"lora_dropout", kCopied, "adapter.dropout"},
    {"peft_use_rslora", kCopied, "adapter.rslora"},
    {"peft_use_dora", kCopied, "adapter.dora"},
    {"lora_target_modules", kTranslated, "adapter.targets", "as PEFT matches names: all that end so", nullptr, translate_targets},
    {"lora_target_parameters", kTranslated, "adapter.targets", "mlp.experts.gate_up_proj, mlp.experts.down_proj", nullptr, translate_targets},
    {"lora_target_linear", kTranslated, "adapter.targets", "attention without o_a_proj, compressor, indexer, shared experts", nullptr, translate_all_linear},
    {"loraplus_lr_ratio", kTranslated, "optimizer.groups", "learning_rate_scale of *.lora_B.weight", nullptr, translate_lora_plus},
    {"lora_modules_to_save", kOff, kNoKey, "beside adapters Braid trains nothing whole"},
    {"lora_model_dir", kOff, kNoKey, "set run.init_from to a run with adapters to train them further"},
    {"lora_fan_in_fan_out", kOff, kNoKey, "no matrix of DeepSeek-V4 is stored so"},
    {"unfrozen_parameters", kOff, kNoKey, "regular expressions of other names; see train.parameters: [pattern, ...]"},
    {"relora_steps", kOff, kNoKey, "Braid has no ReLoRA"},

    {"max_steps", kTranslated, "train.max_steps", "where it is more than 0", nullptr, translate_steps},
    {"num_epochs", kTranslated, "train.epochs", "unless max_steps decides; 1 where it is left out", nullptr, translate_axolotl_epochs},
    {"micro_batch_size", kTranslated, "train.micro_batch_size, train.global_batch_size", "global = micro x accumulation x --processes", nullptr, translate_axolotl_batch},
    {"gradient_accumulation_steps", kTranslated, "train.global_batch_size", "with micro_batch_size"},
    {"bf16", kTranslated, "train.dtype", "true, auto and full = bfloat16", nullptr, translate_bfloat16},
    {"bfloat16", kTranslated, "train.dtype", "the same", nullptr, translate_bfloat16},
    {"fp16", kOff, kNoKey, "Braid has float32 and bfloat16, no float16"},
    {"gradient_checkpointing", kTranslated, "train.recompute_sublayers", "on = 2", nullptr, translate_recompute},

    {"learning_rate", kCopied, "optimizer.learning_rate"},
    {"optimizer", kTranslated, "optimizer.groups", "every AdamW = adamw for all (of adapters by default), state in float32; muon = Braid's default", nullptr, translate_optimizer},
    {"weight_decay", kCopied, "optimizer.weight_decay", "", "0"},
    {"max_grad_norm", kCopied, "optimizer.max_grad_norm", "", "1"},
    {"adam_beta1", kCopied, "optimizer.adamw.beta1", "", "0.9"},
    {"adam_beta2", kCopied, "optimizer.adamw.beta2", "", "0.999"},
    {"adam_epsilon", kCopied, "optimizer.adamw.epsilon", "", "1e-8"},
    {"lr_scheduler", kTranslated, "schedule.kind", "linear, cosine, constant, constant_with_warmup", nullptr, translate_axolotl_schedule},
    {"cosine_min_lr_ratio", kCopied, "schedule.min_ratio", "", "0"},
    {"cosine_constant_lr_ratio", kOff, kNoKey, "Braid's cosine ends with the run"},
    {"warmup_steps", kTranslated, "schedule.warmup_steps, schedule.warmup_share", "a count, or a share", nullptr, translate_axolotl_warmup},
    {"warmup_ratio", kTranslated, "schedule.warmup_share"},

    {"rl", kTranslated, "loss.objective", "dpo = preference", nullptr, translate_preference},
    {"rl_beta", kCopied, "loss.preference_beta"},
    {"dpo_beta", kCopied, "loss.preference_beta"},
    {"dpo_norm_loss", kCopied, "loss.preference_length_normalized"},

    {"save_steps", kTranslated, "checkpoint.every_steps", "a count, or a share where max_steps is given", nullptr, translate_interval},
    {"saves_per_epoch", kOff, kNoKey, "Braid counts steps; set checkpoint.every_steps"},
    {"save_total_limit", kCopied, "checkpoint.keep_last"},
    {"load_best_model_at_end", kTranslated, "checkpoint.keep_best", "true = 1", nullptr, translate_best},
    {"eval_steps", kTranslated, "train.validate_every_steps", "a count, or a share where max_steps is given", nullptr, translate_interval},
    {"evals_per_epoch", kOff, kNoKey, "Braid counts steps; set train.validate_every_steps"},
    {"early_stopping_patience", kCopied, "train.stop_when_worse_for"},
    {"logging_steps", kCopied, "logging.every_steps"},

    {"neftune_noise_alpha", kOff, kNoKey, "Braid adds no noise to embeddings"},
    {"special_tokens", kOff, kNoKey, "Braid takes the tokenizer as its file is"},
    {"tokens", kOff, kNoKey, "Braid adds no tokens to a tokenizer"},
    {"group_by_length", kOff, kNoKey, "Braid packs rows and shuffles them"},
    {"lisa_n_layers", kOff, kNoKey, "Braid has no LISA"},
    {"tokenizer_config", kOff, kNoKey, "the base's tokenizer is taken; see tokenizer"},
    {"deepspeed", kOff, kNoKey, kRanksText},
    {"fsdp", kOff, kNoKey, kRanksText},
    {"fsdp_config", kOff, kNoKey, kRanksText},
    {"context_parallel_size", kCopied, "parallel.context"},

    {"load_in_8bit", kUnneeded, kNoKey, "a base stays in the codes of its files"},
    {"load_in_4bit", kUnneeded, kNoKey, "a base stays in the codes of its files"},
    {"strict", kUnneeded, kNoKey, kHarmless},
    {"plugins", kUnneeded, kNoKey, kHarmless},
    {"model_type", kUnneeded, kNoKey, kHarmless},
    {"tokenizer_type", kUnneeded, kNoKey, kHarmless},
    {"trust_remote_code", kUnneeded, kNoKey, kHarmless},
    {"tf32", kUnneeded, kNoKey, kHarmless},
    {"flash_attention", kUnneeded, kNoKey, kHarmless},
    {"attn_implementation", kUnneeded, kNoKey, kHarmless},
    {"xformers_attention", kUnneeded, kNoKey, kHarmless},
    {"sdp_attention", kUnneeded, kNoKey, kHarmless},
    {"eager_attention", kUnneeded, kNoKey, kHarmless},
    {"pad_to_sequence_len", kUnneeded, kNoKey, kHarmless},
    {"eval_sample_packing", kUnneeded, kNoKey, kHarmless},
    {"eval_batch_size", kUnneeded, kNoKey, kHarmless},
    {"gradient_checkpointing_kwargs", kUnneeded, kNoKey, kHarmless},
    {"resume_from_checkpoint", kUnneeded, kNoKey, "a run that exists continues"},
    {"auto_resume_from_checkpoints", kUnneeded, kNoKey, "a run that exists continues"},
    {"dataset_prepared_path", kUnneeded, kNoKey, kHarmless},
    {"dataset_processes", kUnneeded, kNoKey, kHarmless},
    {"shuffle_merged_datasets", kUnneeded, kNoKey, kHarmless},
    {"save_first_step", kUnneeded, kNoKey, kHarmless},
    {"save_safetensors", kUnneeded, kNoKey, kHarmless},
    {"wandb_project", kUnneeded, kNoKey, "the log is metrics.jsonl in the run's folder"},
    {"wandb_entity", kUnneeded, kNoKey, kHarmless},
    {"wandb_watch", kUnneeded, kNoKey, kHarmless},
    {"wandb_name", kUnneeded, kNoKey, kHarmless},
    {"wandb_log_model", kUnneeded, kNoKey, kHarmless},
    {"hub_model_id", kUnneeded, kNoKey, kHarmless},
    {"local_rank", kUnneeded, kNoKey, kHarmless},
    {"debug", kUnneeded, kNoKey, kHarmless},
};
// clang-format on

}  // namespace

std::span<const RecipeKey> axolotl_keys() {
  return kAxolotlKeys;
}

}  // namespace braid
