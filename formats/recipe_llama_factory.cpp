// LLaMA-Factory's keys: those of its own arguments and of Hugging Face's trainer.
#include <algorithm>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "checkpoint/strict_json.h"
#include "core/config_value.h"
#include "core/error.h"
#include "core/file.h"
#include "formats/recipe_translation.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using enum RecipeKeyKind;

constexpr const char* kDatasetInfo = "dataset_info.json";

std::vector<std::string> names_in(const ConfigNode& node) {
  std::vector<std::string> result;
  if (node.kind == ConfigNode::Kind::kSequence) {
    for (const auto& item : node.items) {
      result.push_back(item.scalar);
    }
    return result;
  }
  std::string word;
  for (const char c : node.scalar + ",") {
    if (c == ',') {
      result.push_back(word);
      word.clear();
    } else if (c != ' ') {
      word += c;
    }
  }
  return result;
}

/// The data sets that a recipe names, as its dataset_info.json describes them.
class DatasetInfo {
 public:
  DatasetInfo(Translation& to, const RecipeKey& key, const ConfigNode& node)
      : to_(to), key_(key), node_(node), folder_(to.word("dataset_dir").value_or("data")) {
    const auto path = folder_ / kDatasetInfo;
    if (fs::exists(path)) {
      info_ = parse_strict_json(read_file(path), path.string());
      require(info_.is_object(), path.string(), ": expected an object of data sets");
    } else {
      to.leave(key.key,
               &node,
               text(path.string(),
                    " is not here, so that names of data sets say no files: set the paths in ",
                    key.ours));
    }
  }

  ConfigNode source(const std::string& name) {
    auto path = folder_ / (name + ".json");
    std::string format;
    const auto found = info_.find(name);
    if (found != info_.end()) {
      const auto& entry = *found;
      format = format_of(entry);
      if (entry.contains("file_name") && entry.at("file_name").is_string()) {
        path = folder_ / entry.at("file_name").get<std::string>();
      } else {
        to_.leave(key_.key,
                  &node_,
                  text("'",
                       name,
                       "' is on a hub; Braid downloads nothing: fetch it as JSONL to ",
                       path.string()));
      }
    } else if (!info_.empty()) {
      to_.leave(
          key_.key, &node_, text("'", name, "' is not in ", (folder_ / kDatasetInfo).string()));
    }
    std::vector<ConfigNode::Entry> entries = {{"path", ConfigNode::text(path.string())}};
    if (!format.empty()) {
      entries.push_back({"format", ConfigNode::text(format)});
    }
    if (const auto* samples = to_.find("max_samples")) {
      entries.push_back({"max_samples", unquoted(*samples)});
    }
    auto result = ConfigNode::mapping(std::move(entries));
    result.place = node_.place;
    return result;
  }

 private:
  static std::string format_of(const nlohmann::json& entry) {
    const auto word = [](const nlohmann::json& object, const char* key) {
      const auto found = object.is_object() ? object.find(key) : object.end();
      return object.is_object() && found != object.end() && found->is_string()
                 ? found->get<std::string>()
                 : std::string();
    };
    if (entry.is_object() && entry.value("ranking", nlohmann::json()) == true) {
      return "preference";
    }
    if (word(entry, "formatting") != "sharegpt") {
      const auto columns = entry.is_object() ? entry.value("columns", nlohmann::json()) : entry;
      return word(columns, "prompt") == "text" ? "text" : "alpaca";
    }
    const auto tags = entry.value("tags", nlohmann::json());
    return word(tags, "role_tag") == "role" ? "messages" : "sharegpt";
  }

  Translation& to_;
  const RecipeKey& key_;
  const ConfigNode& node_;
  fs::path folder_;
  nlohmann::json info_ = nlohmann::json::object();
};

std::vector<ConfigNode> weights_of(Translation& to, std::size_t count) {
  const auto* node = to.find("interleave_probs");
  if (node == nullptr || !to.word("mix_strategy").value_or("concat").starts_with("interleave")) {
    return {};
  }
  std::vector<ConfigNode> result;
  for (const auto& word : names_in(*node)) {
    result.push_back(ConfigNode::plain(word));
    result.back().place = node->place;
  }
  if (result.size() != count) {
    to.leave("interleave_probs", node, text("expected ", count, " shares, got ", result.size()));
    result.clear();
  }
  return result;
}

void translate_named_data(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr) {
    return;
  }
  DatasetInfo info(to, key, *node);
  std::vector<ConfigNode> sources;
  for (const auto& name : names_in(*node)) {
    sources.push_back(info.source(name));
  }
  const auto weights = weights_of(to, sources.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    sources[i].entries.push_back({"weight", weights[i]});
  }
  to.set(key.ours, ConfigNode::sequence(std::move(sources)));
}

void translate_named_validation(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr) {
    return;
  }
  DatasetInfo info(to, key, *node);
  std::vector<ConfigNode> paths;
  for (const auto& name : names_in(*node)) {
    paths.push_back(*info.source(name).find("path"));
  }
  to.set(key.ours, ConfigNode::sequence(std::move(paths)));
}

void translate_stage(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  const auto stage = node == nullptr ? "sft" : node->scalar;
  if (stage == "dpo") {
    to.set_text("loss.objective", "preference");
    to.set_text("data.format", "preference");
  } else if (stage == "pt") {
    to.set_text("data.format", "text");
  } else if (stage != "sft") {
    to.leave(key.key, node, text("'", stage, "': Braid has sft, pt and dpo"));
  }
}

void translate_finetuning(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  const auto type = node == nullptr ? "lora" : node->scalar;
  if (type != "lora" && type != "full") {
    to.leave(key.key,
             node,
             text("'", type, "': Braid has full, lora, and patterns of names in train.parameters"));
  }
  to.set_text(key.ours, type == "lora" ? "lora" : "full");
  if (type == "lora") {
    to.set_number("adapter.rank", to.number("lora_rank").value_or(8));
    to.set_number("adapter.alpha",
                  to.number("lora_alpha").value_or(2 * to.number("lora_rank").value_or(8)));
    if (to.find("lora_target") == nullptr) {
      const auto all = ConfigNode::text("all");
      translate_targets(to, key, &all);
    }
  }
}

void translate_preference_loss(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node != nullptr && node->scalar != "sigmoid") {
    to.leave(key.key, node, text("'", node->scalar, "': Braid has sigmoid (DPO)"));
  }
}

void translate_thinking(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node != nullptr && is_off(*node)) {
    to.set_text(key.ours, "off");
  }
}

void translate_factory_packing(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node != nullptr ? is_off(*node) : to.word("stage").value_or("sft") != "pt") {
    to.leave(key.key,
             node,
             "off: Braid always packs; train.global_batch_size counts rows of data.seq_len tokens, "
             "not samples");
  }
}

void translate_factory_batch(Translation& to, const RecipeKey&, const ConfigNode* node) {
  const auto eight = ConfigNode::plain("8");
  translate_batch(to, node == nullptr ? &eight : node, "gradient_accumulation_steps");
}

void translate_factory_recompute(Translation& to, const RecipeKey& key, const ConfigNode*) {
  if (!to.is_on(key.key)) {
    to.set_number(key.ours, 2);
  }
}

void translate_factory_epochs(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  const auto three = ConfigNode::plain("3");
  translate_epochs(to, key, node == nullptr ? &three : node);
}

void translate_factory_schedule(Translation& to, const RecipeKey& key, const ConfigNode*) {
  translate_schedule(to, key.key, "linear");
}

void translate_factory_warmup(Translation& to, const RecipeKey& key, const ConfigNode*) {
  translate_warmup(to, key.key, "warmup_ratio", 0);
}

// Steps between validations and saves count only where steps are what decides.
void translate_strategy(Translation& to, const RecipeKey& key, const ConfigNode* node) {
  if (node == nullptr || node->scalar == "steps") {
    return;
  }
  if (is_off(*node)) {
    to.set_number(key.ours, 0);
  } else {
    to.leave(key.key, node, text("'", node->scalar, "': Braid counts steps; set ", key.ours));
  }
}

// clang-format off
constexpr RecipeKey kFactoryKeys[] = {
    {"model_name_or_path", kTranslated, "run.init_from", "and model: from_base", nullptr, translate_base},
    {"output_dir", kTranslated, "run.output_dir, run.name", "its last part is the name", nullptr, translate_output},
    {"seed", kCopied, "run.seed"},

    {"dataset", kTranslated, "data.train", "names, by dataset_info.json in dataset_dir", nullptr, translate_named_data},
    {"dataset_dir", kTranslated, "data.train", "with dataset"},
    {"max_samples", kTranslated, "data.train", "max_samples of each"},
    {"mix_strategy", kTranslated, "data.train", "interleave_*: weights"},
    {"interleave_probs", kTranslated, "data.train", "weights"},
    {"eval_dataset", kTranslated, "data.validation", "as dataset", nullptr, translate_named_validation},
    {"val_size", kTranslated, "data.validation_fraction", "a share; a count is left", nullptr, translate_validation},
    {"cutoff_len", kCopied, "data.seq_len", "longer samples are cut (data.too_long)", "2048"},
    {"train_on_prompt", kTranslated, "data.roles_to_train", "true = system, user, assistant, tool", nullptr, translate_trained_inputs},
    {"mask_history", kCopied, "data.mask_history"},
    {"enable_thinking", kTranslated, "data.thinking", "false = off", nullptr, translate_thinking},
    {"template", kTranslated, kNoKey, "DeepSeek-V4's, always", nullptr, translate_template},
    {"packing", kTranslated, kNoKey, "always on; documents do not see each other", nullptr, translate_factory_packing},

    {"stage", kTranslated, "loss.objective, data.format", "sft, pt = text, dpo = preference", nullptr, translate_stage},
    {"pref_beta", kCopied, "loss.preference_beta"},
    {"pref_loss", kTranslated, "loss.objective", "sigmoid", nullptr, translate_preference_loss},
    {"pref_ftx", kOff, kNoKey, "Braid adds no language loss to preferences"},

    {"finetuning_type", kTranslated, "train.parameters", "lora, full", nullptr, translate_finetuning},
    {"lora_rank", kTranslated, "adapter.rank", "8 where it is left out"},
    {"lora_alpha", kTranslated, "adapter.alpha", "twice the rank where it is left out"},
    {"lora_dropout", kCopied, "adapter.dropout"},
    {"use_rslora", kCopied, "adapter.rslora"},
    {"use_dora", kCopied, "adapter.dora"},
    {"lora_target", kTranslated, "adapter.targets", "as PEFT matches names: all that end so; all = attention without o_a_proj, compressor, indexer, shared experts", nullptr, translate_targets},
    {"loraplus_lr_ratio", kTranslated, "optimizer.groups", "learning_rate_scale of *.lora_B.weight", nullptr, translate_lora_plus},
    {"pissa_init", kOff, kNoKey, "Braid's adapters begin with A uniform and B zero"},
    {"additional_target", kOff, kNoKey, "beside adapters Braid trains nothing whole"},
    {"adapter_name_or_path", kOff, kNoKey, "set run.init_from to a run with adapters to train them further"},
    {"freeze_trainable_layers", kOff, kNoKey, "see train.parameters: [pattern, ...]"},
    {"freeze_trainable_modules", kOff, kNoKey, "see train.parameters: [pattern, ...]"},

    {"max_steps", kTranslated, "train.max_steps", "where it is more than 0", nullptr, translate_steps},
    {"num_train_epochs", kTranslated, "train.epochs", "unless max_steps decides; 3 where it is left out", nullptr, translate_factory_epochs},
    {"per_device_train_batch_size", kTranslated, "train.micro_batch_size, train.global_batch_size", "global = micro x accumulation x --processes", nullptr, translate_factory_batch},
    {"gradient_accumulation_steps", kTranslated, "train.global_batch_size", "with per_device_train_batch_size"},
    {"bf16", kTranslated, "train.dtype", "true = bfloat16", nullptr, translate_bfloat16},
    {"pure_bf16", kOff, kNoKey, "Braid's trained weights are float32"},
    {"fp16", kOff, kNoKey, "Braid has float32 and bfloat16, no float16"},
    {"disable_gradient_checkpointing", kTranslated, "train.recompute_sublayers", "not true = 2", nullptr, translate_factory_recompute},

    {"learning_rate", kCopied, "optimizer.learning_rate", "", "5e-5"},
    {"optim", kTranslated, "optimizer.groups", "every AdamW = adamw for all (of adapters by default), state in float32", nullptr, translate_optimizer},
    {"use_muon", kUnneeded, kNoKey, "see optim"},
    {"weight_decay", kCopied, "optimizer.weight_decay", "", "0"},
    {"max_grad_norm", kCopied, "optimizer.max_grad_norm", "", "1"},
    {"adam_beta1", kCopied, "optimizer.adamw.beta1", "", "0.9"},
    {"adam_beta2", kCopied, "optimizer.adamw.beta2", "", "0.999"},
    {"adam_epsilon", kCopied, "optimizer.adamw.epsilon", "", "1e-8"},
    {"lr_scheduler_type", kTranslated, "schedule.kind", "linear, cosine, constant, constant_with_warmup", nullptr, translate_factory_schedule},
    {"lr_scheduler_kwargs", kOff, kNoKey, "see schedule.min_ratio"},
    {"warmup_steps", kTranslated, "schedule.warmup_steps, schedule.warmup_share", "a count, or a share", nullptr, translate_factory_warmup},
    {"warmup_ratio", kTranslated, "schedule.warmup_share"},

    {"save_steps", kTranslated, "checkpoint.every_steps", "a count, or a share where max_steps is given", nullptr, translate_interval},
    {"save_strategy", kTranslated, "checkpoint.every_steps", "steps, no = 0", nullptr, translate_strategy},
    {"save_total_limit", kCopied, "checkpoint.keep_last"},
    {"load_best_model_at_end", kTranslated, "checkpoint.keep_best", "true = 1", nullptr, translate_best},
    {"eval_steps", kTranslated, "train.validate_every_steps", "a count, or a share where max_steps is given", nullptr, translate_interval},
    {"eval_strategy", kTranslated, "train.validate_every_steps", "steps, no = 0", nullptr, translate_strategy},
    {"early_stopping_steps", kCopied, "train.stop_when_worse_for"},
    {"logging_steps", kCopied, "logging.every_steps"},

    {"neftune_noise_alpha", kOff, kNoKey, "Braid adds no noise to embeddings"},
    {"label_smoothing_factor", kOff, kNoKey, "Braid's targets are one token"},
    {"group_by_length", kOff, kNoKey, "Braid packs rows and shuffles them"},
    {"new_special_tokens", kOff, kNoKey, "Braid adds no tokens to a tokenizer"},
    {"rope_scaling", kOff, kNoKey, "the base's is taken"},
    {"use_galore", kOff, kNoKey, "Braid has no GaLore"},
    {"use_badam", kOff, kNoKey, "Braid has no BAdam"},
    {"streaming", kOff, kNoKey, "Braid prepares all data before the first step"},
    {"deepspeed", kOff, kNoKey, kRanksText},
    {"use_kt", kOff, kNoKey, "experts stay in their files and are read from there"},

    {"do_train", kUnneeded, kNoKey, kHarmless},
    {"neat_packing", kUnneeded, kNoKey, "Braid's packed documents never see each other"},
    {"quantization_bit", kUnneeded, kNoKey, "a base stays in the codes of its files"},
    {"quantization_method", kUnneeded, kNoKey, "a base stays in the codes of its files"},
    {"trust_remote_code", kUnneeded, kNoKey, kHarmless},
    {"flash_attn", kUnneeded, kNoKey, kHarmless},
    {"enable_liger_kernel", kUnneeded, kNoKey, kHarmless},
    {"use_unsloth", kUnneeded, kNoKey, kHarmless},
    {"overwrite_cache", kUnneeded, kNoKey, kHarmless},
    {"overwrite_output_dir", kUnneeded, kNoKey, "a run that exists continues"},
    {"resume_from_checkpoint", kUnneeded, kNoKey, "a run that exists continues"},
    {"preprocessing_num_workers", kUnneeded, kNoKey, kHarmless},
    {"dataloader_num_workers", kUnneeded, kNoKey, kHarmless},
    {"per_device_eval_batch_size", kUnneeded, kNoKey, kHarmless},
    {"ddp_timeout", kUnneeded, kNoKey, kHarmless},
    {"plot_loss", kUnneeded, kNoKey, "the log is metrics.jsonl in the run's folder"},
    {"report_to", kUnneeded, kNoKey, "the log is metrics.jsonl in the run's folder"},
    {"run_name", kUnneeded, kNoKey, "output_dir names the run"},
    {"save_only_model", kUnneeded, kNoKey, kHarmless},
    {"include_num_input_tokens_seen", kUnneeded, kNoKey, kHarmless},
};
// clang-format on

}  // namespace

std::span<const RecipeKey> llama_factory_keys() {
  return kFactoryKeys;
}

}  // namespace braid
