#include "run/metric_keys.h"

#include <algorithm>
#include <set>

#include "core/nearest.h"
#include "core/parameter_names.h"

namespace braid {
namespace {

class Keys {
 public:
  explicit Keys(std::vector<MetricKey>& keys) : keys_(keys) {}

  void add(const std::vector<std::string>& keys, std::optional<Monitor> monitor = {}) {
    for (const auto& key : keys) {
      keys_.push_back({key, monitor});
    }
  }
  void add_each(const std::string& name,
                const std::vector<std::string>& ends,
                std::optional<Monitor> monitor = {}) {
    for (const auto& end : ends) {
      keys_.push_back({name + "." + end, monitor});
    }
  }

 private:
  std::vector<MetricKey>& keys_;
};

std::vector<std::string> part_names() {
  std::vector<std::string> names;
  for (const auto& kind : parameter_kinds()) {
    const std::string name(name_of(kind.part));
    if (std::ranges::find(names, name) == names.end()) {
      names.push_back(name);
    }
  }
  return names;
}

void add_of_layers(const ModelConfig& model, Keys& keys) {
  std::set<std::string> kinds;
  const auto add = [&](const std::string& layer, const LayerConfig& config) {
    kinds.insert(enum_name(config.attention));
    keys.add({"expert_entropy." + layer}, Monitor::kExperts);
    if (config.routing != RoutingKind::kHash) {
      keys.add({"expert_dead." + layer, "expert_bias_range." + layer}, Monitor::kExperts);
    }
  };
  for (int64_t i = 0; i < model.num_hidden_layers; ++i) {
    add(text(i), model.layer(i));
  }
  if (model.num_nextn_predict_layers > 0) {
    add("mtp", model.mtp_layer());
  }
  for (const auto& kind : kinds) {
    keys.add({"attention_logit_max." + kind}, Monitor::kAttention);
    keys.add_each("attention_mass." + kind, {"sink", "window"}, Monitor::kAttention);
    keys.add_each("attention_rms." + kind, {"query", "key"}, Monitor::kAttention);
    if (kind == "csa" || kind == "hca") {
      keys.add_each("attention_mass." + kind, {"compressed"}, Monitor::kAttention);
    }
  }
}

}  // namespace

std::vector<MetricKey> metric_keys(const RunConfig& config) {
  std::vector<MetricKey> all;
  Keys keys(all);
  const auto parts = part_names();
  keys.add({"tokens",
            "loss",
            "balance_loss",
            "indexer_kl",
            "indexer_recall",
            "expert_max_violation",
            "expert_max_violation.hash",
            "learning_rate",
            "gradient_norm",
            "tokens_per_second",
            "step_seconds",
            "skipped_total"});
  if (config.stability.goes_back()) {
    keys.add({"rollbacks"});
  }
  if (config.loss.objective == ObjectiveKind::kPreference) {
    keys.add({"reward_margin", "reward_accuracy", "chosen_reward", "rejected_reward"});
  } else if (config.model.num_nextn_predict_layers > 0) {
    keys.add({"mtp_loss"});
    keys.add({"mtp_ratio"}, Monitor::kMtp);
  }
  keys.add_each("gradient_norm", parts);
  keys.add_each("sent_bytes", {"updates", "experts", "context"});
  for (const auto& [name, kind] : enum_names(OptimizerKind{})) {
    if (kind != OptimizerKind::kNone) {
      keys.add_each(text("update_rms.", name), parts, Monitor::kUpdates);
    }
  }
  keys.add({"orthogonality_error", "orthogonality_rank"}, Monitor::kUpdates);
  keys.add_each("weight_rms", parts, Monitor::kWeights);
  add_of_layers(config.model, keys);
  for (const auto* name : {"swiglu_clamped", "swiglu_max"}) {
    keys.add_each(name, {"routed"}, Monitor::kSwiglu);
    if (config.model.n_shared_experts > 0) {
      keys.add_each(name, {"shared"}, Monitor::kSwiglu);
    }
  }
  if (config.model.residual != ResidualKind::kPlain) {
    keys.add_each("residual_error", {"rows", "columns"}, Monitor::kResidual);
    keys.add_each("residual_gain",
                  {"forward", "backward", "forward_max", "backward_max"},
                  Monitor::kResidual);
  }
  if (config.model.residual == ResidualKind::kMhc) {
    keys.add({"residual_entropy"}, Monitor::kResidual);
  }
  return all;
}

void validate_alarms(const RunConfig& config) {
  const auto& alarms = config.stability.alarms;
  const auto defaults = default_alarms();
  const auto keys = metric_keys(config);
  for (std::size_t i = 0; i < alarms.size(); ++i) {
    const auto& rule = alarms[i];
    const auto path = text("stability.alarms[", i, "]");
    if (!rule.above && !rule.below) {
      throw ConfigError(path, "has no threshold; expected above, below or both");
    }
    if (std::ranges::find(defaults, rule) != defaults.end()) {
      continue;
    }
    std::string nearest;
    std::size_t least = rule.metric.size() + 1;
    std::optional<Monitor> off;
    bool is_there = false;
    for (const auto& [key, monitor] : keys) {
      if (rule.is_about(key)) {
        const bool is_on = !monitor || config.logging.monitors.contains(*monitor);
        is_there |= is_on;
        off = is_on ? off : monitor;
      }
      for (auto end = key.find('.');; end = key.find('.', end + 1)) {  // "a", "a.b", "a.b.c"
        const auto name = key.substr(0, end);
        const auto distance = edit_distance(rule.metric, name);
        if (distance < least) {
          least = distance;
          nearest = name;
        }
        if (end == std::string::npos) {
          break;
        }
      }
    }
    if (is_there) {
      continue;
    }
    if (off) {
      throw ConfigError(
          path + ".metric",
          text("'",
               rule.metric,
               "' is measured by the monitor ",
               enum_name(*off),
               ", which logging.monitors leaves out; expected it there, or no alarm"));
    }
    throw ConfigError(path + ".metric",
                      text("'",
                           rule.metric,
                           "' is no number that steps of this run report",
                           2 * least <= rule.metric.size() ? "; did you mean '" + nearest + "'?"
                                                           : "; docs/monitors.md lists them"));
  }
}

}  // namespace braid
