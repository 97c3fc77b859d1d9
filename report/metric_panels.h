#pragma once
// Which numbers of metrics.jsonl are shown together, in which section, and what they are called.
// Numbers that are not known here are shown as well, those with a common name before the first dot
// together: a new monitor needs nothing.
#include <string>
#include <vector>

namespace braid {

struct MetricPanel {
  std::string section;
  std::string title, note, y_label;
  bool log_y = false;
  struct Member {
    std::string key, name;  ///< "gradient_norm.router", "router"
  };
  std::vector<Member> members;
  /// Whether the members are the layers of a model, more than lines can show.
  bool is_by_layer = false;
};

/// Panels of these keys of training steps. The losses, and what is an axis of the page, are not
/// among them.
std::vector<MetricPanel> training_panels(const std::vector<std::string>& keys);

/// The same of validations.
std::vector<MetricPanel> validation_panels(const std::vector<std::string>& keys);

}  // namespace braid
