#include "formats/base_model.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "checkpoint/history.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "formats/open_model.h"
#include "run/run_folder.h"
#include "run/validated.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using Loaded = LoadedConfig<RunConfig>;

constexpr const char* kSection = "model.";

// Keys that say one thing together: the kinds of the layers, and their routing.
constexpr const char* kLayerKeys[] = {"compress_ratios", "layer_types"};
constexpr const char* kRoutingKeys[] = {"num_hash_layers", "routing"};

template <class Keys>
bool is_one_of(const std::string& key, const Keys& keys) {
  return std::ranges::find(keys, key) != std::ranges::end(keys);
}

/// What is written here and contradicts the base.
struct Contradiction {
  std::string key;  ///< "rope_scaling.factor"
  std::string here, there;
};

/// Calls `visit(path, own, base)` for every member that is no mapping.
template <class Visit>
struct Pairs {
  ModelConfig& own;
  const ModelConfig& base;
  Visit& visit;

  template <class T, class... Rules>
  void operator()(const char* key, T ModelConfig::*member, const char*, const Rules&... rules) {
    if constexpr (std::is_same_v<T, RopeScaling>) {
      // Without YaRN the other numbers say nothing.
      const bool plain = own.rope_scaling.factor == 1 && base.rope_scaling.factor == 1;
      const RopeScaling& other = plain ? std::as_const(own.rope_scaling) : base.rope_scaling;
      Nested nested{own.rope_scaling, other, key, visit};
      RopeScaling::fields(nested);
    } else {
      visit(std::string(key), own.*member, base.*member, config_detail::rules_of(rules...));
    }
  }

  struct Nested {
    RopeScaling& own;
    const RopeScaling& base;
    std::string path;
    Visit& visit;

    template <class T, class... Rules>
    void operator()(const char* key, T RopeScaling::*member, const char*, const Rules&... rules) {
      visit(path + "." + key, own.*member, base.*member, config_detail::rules_of(rules...));
    }
  };
};

template <class Visit>
void for_each_pair(ModelConfig& own, const ModelConfig& base, Visit visit) {
  Pairs<Visit> pairs{own, base, visit};
  ModelConfig::fields(pairs);
}

std::string layer_text(const LayerConfig& layer) {
  const std::string kind = enum_name(layer.attention);
  return layer.compresses() ? text(kind, " with ratio ", layer.ratio) : kind;
}

std::string routing_text(const LayerConfig& layer) {
  return layer.routing == RoutingKind::kHash ? "hash" : "learned";
}

/// The model section of a run on what it starts from.
class Completion {
 public:
  Completion(Loaded& loaded, ModelConfig base)
      : loaded_(loaded), model_(loaded.value.model), written_(model_), base_(std::move(base)) {
    require_known_overrides();
  }

  /// What is not written becomes the base's. Returns what is written, contradicts it and is not
  /// meant to.
  std::vector<Contradiction> complete() {
    for_each_pair(model_, base_, [this](const auto& key, auto& own, const auto& base, auto rules) {
      if (is_one_of(key, kLayerKeys) || is_one_of(key, kRoutingKeys)) {
        return;
      }
      const auto here = value_text(own, rules), there = value_text(base, rules);
      if (!is_written(key)) {
        own = base;
      } else if (here != there && !may_differ(key)) {
        contradictions_.push_back({key, here, there});
      }
    });
    if (model_.num_hidden_layers == base_.num_hidden_layers) {
      complete_group(
          kLayerKeys, layer_text, [](ModelConfig& to, const ModelConfig& from, bool a, bool b) {
            to.compress_ratios = a ? from.compress_ratios : std::vector<int64_t>();
            to.layer_types = b ? from.layer_types : std::vector<AttentionKind>();
          });
      complete_group(
          kRoutingKeys, routing_text, [](ModelConfig& to, const ModelConfig& from, bool a, bool b) {
            to.num_hash_layers = a ? from.num_hash_layers : 0;
            to.routing = b ? from.routing : std::vector<RoutingKind>();
          });
    }
    model_.source = ModelSource::kKeys;
    return contradictions_;
  }

 private:
  template <class T>
  static std::string value_text(const T& value, const FieldRules& rules) {
    return inline_yaml_text(config_detail::node_of(value, rules));
  }

  bool is_written(const std::string& key) const {
    return model_.source == ModelSource::kKeys && loaded_.where(kSection + key) != "default";
  }

  bool may_differ(const std::string& key) const {
    return is_one_of(key, kFreeModelKeys) || is_one_of(key, model_.overridden) ||
           is_one_of(key.substr(0, key.find('.')), model_.overridden);
  }

  // Two spellings of the layers may mean the same; then the base's stays. `copy` copies the first
  // and the second key, or clears them.
  template <class Keys, class Text, class Copy>
  void complete_group(const Keys& keys, const Text& text_of, const Copy& copy) {
    const bool first = is_written(keys[0]), second = is_written(keys[1]);
    auto here = base_;
    if (first || second) {
      copy(here, written_, first, second);
      here.validate();
    }
    std::optional<int64_t> different;  // the first layer that is
    for (int64_t i = base_.num_hidden_layers - 1; i >= 0; --i) {
      if (text_of(here.layer(i)) != text_of(base_.layer(i))) {
        different = i;
      }
    }
    copy(model_, different ? here : base_, true, true);
    if (different && !may_differ(keys[0]) && !may_differ(keys[1])) {
      const auto layer = text("layer ", *different, " = ");
      contradictions_.push_back({second ? keys[1] : keys[0],
                                 layer + text_of(here.layer(*different)),
                                 layer + text_of(base_.layer(*different))});
    }
  }

  void require_known_overrides() const {
    std::vector<std::string> known = {"rope_scaling"};
    auto unused = base_;
    for_each_pair(unused, base_, [&known](const auto& key, auto&, const auto&, auto) {
      known.push_back(key);
    });
    for (std::size_t i = 0; i < model_.overridden.size(); ++i) {
      if (!is_one_of(model_.overridden[i], known)) {
        throw ConfigError(text("model.override[", i, "]"),
                          text("'",
                               model_.overridden[i],
                               "' is no key of the model; expected names such as rope_theta or "
                               "rope_scaling.factor"));
      }
    }
  }

  Loaded& loaded_;
  ModelSection& model_;
  ModelConfig written_;
  ModelConfig base_;
  std::vector<Contradiction> contradictions_;
};

// The checkpoint that the run continues from, as far as its configuration tells.
std::optional<fs::path> continued_checkpoint(const RunConfig& config, const std::string& resume) {
  if (resume == "none") {
    return std::nullopt;
  }
  const auto has_config = [](const fs::path& folder) { return fs::exists(folder / kConfigFile); };
  if (resume != "auto") {
    return has_config(resume) ? std::optional<fs::path>(resume) : std::nullopt;
  }
  const auto folder = RunPaths{config.run_dir()}.checkpoints();
  for (const auto& checkpoint : complete_checkpoints(folder)) {
    if (has_config(checkpoint)) {
      return checkpoint;
    }
  }
  return std::nullopt;
}

bool is_same_folder(const std::string& a, const std::string& b) {
  std::error_code absent;
  return a == b || (!a.empty() && !b.empty() && fs::equivalent(a, b, absent));
}

void require_same_base(const RunConfig& config, const RunConfig& before, const fs::path& from) {
  const auto &now = config.run.init_from, &then = before.run.init_from;
  if (now.empty() || is_same_folder(now, then)) {
    return;
  }
  throw ConfigError(
      "run.init_from",
      text("is ",
           now,
           ", but this run exists and continues from ",
           from.string(),
           then.empty() ? ", and it began from random weights" : ", and it began from " + then,
           "; a base is read at step 0 only. ",
           then.empty() ? "Remove the key" : "Set it to what it was",
           " to continue, choose another run.name, or start again with --resume none"));
}

void complete_from_checkpoint(Loaded& loaded, const fs::path& checkpoint) {
  const auto before = load_config<RunConfig>((checkpoint / kConfigFile).string()).value;
  require_same_base(loaded.value, before, checkpoint);
  Completion(loaded, before.model).complete();  // what differs, the trainer says
}

void complete_from_base(Loaded& loaded) {
  auto& config = loaded.value;
  if (!fs::is_directory(config.run.init_from)) {
    throw ConfigError("run.init_from",
                      text("is ",
                           config.run.init_from,
                           ", which is no folder; expected a run, a checkpoint, or a folder with "
                           "config.json and safetensors"));
  }
  const auto base = architecture_of(config.run.init_from);
  const auto contradictions = Completion(loaded, base.config).complete();
  if (contradictions.empty()) {
    return;
  }
  const auto& [key, here, there] = contradictions.front();
  std::string others;
  for (std::size_t i = 1; i < contradictions.size(); ++i) {
    others += (i > 1 ? ", " : "; so do ") + contradictions[i].key;
  }
  throw ConfigError(kSection + key,
                    text("is ",
                         here,
                         ", but the base ",
                         config.run.init_from,
                         " has ",
                         there,
                         " (",
                         base.file.string(),
                         ")",
                         others,
                         ". Leave the key out to take the base's, or name it in model.override if "
                         "the weights are to compute with another value"));
}

}  // namespace

RunConfig validated_on_base(LoadedConfig<RunConfig> loaded) {
  return validated(std::move(loaded), [](Loaded& complete) {
    if (!complete.value.run.init_from.empty()) {
      complete_from_base(complete);
    }
  });
}

RunConfig load_run_config_on_base(const std::string& path,
                                  const std::vector<std::string>& overrides,
                                  const std::vector<std::string>& overlays,
                                  const std::string& resume) {
  return load_run_config(path, overrides, overlays, [&resume](Loaded& loaded) {
    const auto& config = loaded.value;
    if (config.run.init_from.empty() && config.model.source == ModelSource::kKeys) {
      return;
    }
    if (const auto checkpoint = continued_checkpoint(config, resume)) {
      complete_from_checkpoint(loaded, *checkpoint);
    } else if (!config.run.init_from.empty()) {
      complete_from_base(loaded);
    }
  });
}

}  // namespace braid
