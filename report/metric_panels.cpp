#include "report/metric_panels.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string_view>

namespace braid {
namespace {

// More layers than these are a heat map.
constexpr std::size_t kMostLayerLines = 6;

struct Known {
  std::string_view keys;  // a name, with or without what follows a dot; "name*": all that begin so
  const char* section;
  const char* title;  // "" = the name, each name its own panel
  const char* y_label;
  const char* note;
  bool log_y = false;
  const char* whole = "all";  // the member without a dot, beside others
};

constexpr const char* kLoss = "Loss";
constexpr const char* kOptimization = "Optimization";
constexpr const char* kExperts = "Experts";
constexpr const char* kAttention = "Attention";
constexpr const char* kStreams = "Residual streams";
constexpr const char* kSpeed = "Speed";
constexpr const char* kOther = "Other monitors";

// In the order of the page.
constexpr std::array kKnown = {
    Known{"mtp_loss", kLoss, "Loss of multi-token prediction", "nats per target", ""},
    Known{"mtp_ratio", kLoss, "Multi-token prediction over main loss", "ratio", ""},
    Known{"loss",
          kLoss,
          "Validation loss by role",
          "nats per target",
          "Of the messages of each role that are trained, and of the parts of the assistant's."},
    Known{"bits_per_byte", kLoss, "Bits per byte of validation text", "bits per byte", ""},
    Known{"accuracy", kLoss, "Accuracy", "share", ""},
    Known{"reward*", kLoss, "", "", ""},
    Known{"chosen*", kLoss, "", "", ""},
    Known{"rejected*", kLoss, "", "", ""},
    Known{"learning_rate", kOptimization, "Learning rate", "learning rate", ""},
    Known{"gradient_norm",
          kOptimization,
          "Gradient norms",
          "norm before clipping",
          "By part of the model.",
          true},
    Known{"update_rms",
          kOptimization,
          "Updates",
          "RMS over learning rate",
          "Without weight decay, by optimizer and part of the model."},
    Known{"weight_rms", kOptimization, "Weights", "RMS", "By part of the model."},
    Known{"orthogonality*",
          kOptimization,
          "Orthogonality of a Muon update",
          "error; share of rank",
          "The largest distance of a singular value above 1/2 from 1, and the share of those."},
    Known{"expert_max_violation",
          kExperts,
          "Expert load",
          "MaxVio",
          "The fullest expert's load over the mean load, less 1, of the worst layer: 0 is even.",
          false,
          "learned routing"},
    Known{"expert_entropy",
          kExperts,
          "Entropy of the expert load",
          "share of ln E",
          "1 is even, 0 is all load on one expert."},
    Known{"expert_dead", kExperts, "Experts without a token", "experts", ""},
    Known{"expert_bias_range",
          kExperts,
          "Range of the routing biases",
          "largest less smallest bias",
          ""},
    Known{"expert_*", kExperts, "", "", ""},
    Known{"balance_loss", kExperts, "Balance loss", "before its weight", ""},
    Known{"swiglu_clamped", kExperts, "Clamped hidden units", "share", ""},
    Known{"swiglu_max", kExperts, "Hidden units before clamping", "largest value", ""},
    Known{"indexer_recall",
          kAttention,
          "Index recall",
          "share",
          "Share of the attention to compressed entries that the indexer's choice holds."},
    Known{"indexer_kl", kAttention, "Indexer loss", "KL, nats", ""},
    Known{"attention_logit_max", kAttention, "Attention logits", "largest logit", ""},
    Known{"attention_mass",
          kAttention,
          "Where attention goes",
          "share of the softmax",
          "By kind of attention: to sinks, the window, compressed entries."},
    Known{"attention_rms",
          kAttention,
          "Queries and keys",
          "root mean square",
          "After their norms: growth is that of the norms' gains."},
    Known{"attention_*", kAttention, "", "", ""},
    Known{"residual_gain",
          kStreams,
          "mHC: composite gain",
          "gain",
          "Of the product of all layers' mixing matrices: 1 neither amplifies nor fades."},
    Known{
        "residual_error", kStreams, "mHC: sums of mixing matrices", "largest distance from 1", ""},
    Known{"residual_entropy",
          kStreams,
          "mHC: how evenly streams are mixed",
          "entropy over its largest value",
          "1: all streams become their mean; 0: each stays what it is, or takes another's place."},
    Known{"residual*", kStreams, "", "", ""},
    Known{"tokens_per_second", kSpeed, "Throughput", "tokens per second", ""},
    Known{"sent_bytes", kSpeed, "Bytes sent in a step", "bytes, rank 0", ""},
};

std::string before_dot(const std::string& key) {
  return key.substr(0, key.find('.'));
}

// "expert_entropy" becomes "Expert entropy".
std::string title_of(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  if (!name.empty()) {
    name.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(name.front())));
  }
  return name;
}

bool fits(const Known& known, const std::string& key) {
  return known.keys.ends_with('*') ? key.starts_with(known.keys.substr(0, known.keys.size() - 1))
                                   : before_dot(key) == known.keys;
}

bool is_layer(const std::string& name) {
  if (name == "mtp") {
    return true;
  }
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isdigit(c) != 0;
  });
}

// What tells a key from the others of its name.
std::string member_name(const std::string& key, const Known& known) {
  const auto dot = key.find('.');
  return dot == std::string::npos ? known.whole : key.substr(dot + 1);
}

// What all begin with, up to a word's end: "orthogonality_".
std::size_t common_words(const std::vector<MetricPanel::Member>& members) {
  std::string common = members.front().key;
  for (const auto& member : members) {
    const auto end =
        std::mismatch(common.begin(), common.end(), member.key.begin(), member.key.end());
    common.erase(end.first, common.end());
  }
  return common.find_last_of('_') == std::string::npos ? 0 : common.find_last_of('_') + 1;
}

// Keys of several names ("orthogonality_error", "orthogonality_rank") are told apart by these.
void name_members(MetricPanel& panel) {
  const auto& members = panel.members;
  const bool has_one_name = std::all_of(members.begin(), members.end(), [&](const auto& member) {
    return before_dot(member.key) == before_dot(members.front().key);
  });
  for (auto& member : panel.members) {
    member.name = has_one_name ? member.name : member.key.substr(common_words(members));
    std::replace(member.name.begin(), member.name.end(), '_', ' ');
  }
  panel.is_by_layer = members.size() > kMostLayerLines &&
                      std::all_of(members.begin(), members.end(), [](const auto& member) {
                        return is_layer(member.name);
                      });
}

std::vector<MetricPanel> panels_of(std::vector<std::string> keys) {
  std::vector<MetricPanel> panels;
  // Those of keys that `known` fits, which are then done; a panel for each name without a title.
  const auto take = [&](const Known& known) {
    std::vector<MetricPanel> of_known;
    std::vector<std::string> names;
    for (const auto& key : keys) {
      if (!fits(known, key)) {
        continue;
      }
      const auto name = known.title[0] == '\0' ? before_dot(key) : "";
      const auto found = std::find(names.begin(), names.end(), name) - names.begin();
      if (static_cast<std::size_t>(found) == names.size()) {
        names.push_back(name);
        const auto title = name.empty() ? std::string(known.title) : title_of(name);
        of_known.push_back({known.section,
                            title,
                            known.note,
                            known.y_label[0] == '\0' ? name : known.y_label,
                            known.log_y,
                            {},
                            false});
      }
      of_known[static_cast<std::size_t>(found)].members.push_back({key, member_name(key, known)});
    }
    std::erase_if(keys, [&](const std::string& key) { return fits(known, key); });
    panels.insert(panels.end(), of_known.begin(), of_known.end());
  };
  for (const auto& known : kKnown) {
    take(known);
  }
  take({"*", kOther, "", "", ""});
  for (auto& panel : panels) {
    name_members(panel);
    std::replace(panel.y_label.begin(), panel.y_label.end(), '_', ' ');
  }
  return panels;
}

}  // namespace

std::vector<MetricPanel> training_panels(const std::vector<std::string>& keys) {
  std::vector<std::string> shown;
  for (const auto& key : keys) {
    const bool is_elsewhere = key == "loss" || key == "tokens" || key == "step_seconds" ||
                              key == "skipped_total" || key == "rollbacks" ||
                              key.starts_with("rollback.");
    if (!is_elsewhere) {
      shown.push_back(key);
    }
  }
  return panels_of(shown);
}

std::vector<MetricPanel> validation_panels(const std::vector<std::string>& keys) {
  std::vector<std::string> shown;
  for (const auto& key : keys) {
    if (key != "loss" && key != "tokens" && key != "perplexity" && key != "pairs") {
      shown.push_back(key);
    }
  }
  return panels_of(shown);
}

}  // namespace braid
