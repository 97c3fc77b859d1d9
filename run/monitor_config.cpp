#include "run/monitor_config.h"

namespace braid {

MonitorSet MonitorSet::all() {
  MonitorSet set;
  for (const auto& [name, monitor] : enum_names(Monitor{})) {
    set.bits_ |= bit(monitor);
  }
  return set;
}

MonitorSet MonitorSet::of(std::initializer_list<Monitor> monitors) {
  MonitorSet set;
  for (const auto monitor : monitors) {
    set.bits_ |= bit(monitor);
  }
  return set;
}

MonitorSet MonitorSet::from_config(const ConfigNode& node,
                                   const std::string& path,
                                   ConfigPlaces& places) {
  if (node.kind == ConfigNode::Kind::kScalar) {
    return read_choice(node, path, {"all", "none"}) == 0 ? all() : MonitorSet();
  }
  require_list(node, path);
  MonitorSet set;
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    Monitor monitor{};
    config_detail::read_value(node.items[i], text(path, "[", i, "]"), {}, places, monitor);
    set.bits_ |= bit(monitor);
  }
  return set;
}

ConfigNode MonitorSet::to_config() const {
  if (*this == all() || empty()) {
    return ConfigNode::text(empty() ? "none" : "all");
  }
  std::vector<ConfigNode> items;
  for (const auto& [name, monitor] : enum_names(Monitor{})) {
    if (contains(monitor)) {
      items.push_back(ConfigNode::text(name));
    }
  }
  return ConfigNode::sequence(std::move(items));
}

}  // namespace braid
