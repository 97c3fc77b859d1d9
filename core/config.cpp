#include "core/config.h"

#include <algorithm>

namespace braid {

std::string ConfigPlaces::where(const std::string& path) const {
  const auto found = places_.find(path);
  return found == places_.end() ? "default" : found->second;
}

Error ConfigPlaces::located(const ConfigError& error) const {
  if (error.key().empty()) {
    return Error(error.message());
  }
  return Error(text(error.key(), " (", where(error.key()), "): ", error.message()));
}

std::string aligned(const std::vector<FieldDescription>& fields) {
  // One very long default must not push every other column off the screen.
  constexpr std::size_t kWidest = 32;
  std::size_t path_width = 0, default_width = 0, kind_width = 0;
  for (const auto& field : fields) {
    path_width = std::max(path_width, field.path.size());
    default_width = std::max(default_width, std::min(kWidest, field.default_value.size()));
    kind_width = std::max(kind_width, std::min(kWidest, field.kind.size()));
  }
  const auto padded = [](std::string cell, std::size_t width) {
    cell.resize(std::max(width, cell.size()), ' ');
    return cell;
  };
  std::string result;
  for (const auto& [path, default_value, kind, help] : fields) {
    result += padded(path, path_width) + " = " + padded(default_value, default_width) + "  " +
              padded(kind, kind_width) + "  " + help + "\n";
  }
  return result;
}

namespace config_detail {

ConfigNode from_scalar(const ConfigNode& scalar, const char* key) {
  auto mapping = ConfigNode::mapping({{key, scalar}});
  mapping.place = scalar.place;
  return mapping;
}

ConfigNode as_scalar(ConfigNode mapping, const ConfigNode& defaults, const char* key) {
  for (const auto& [name, value] : mapping.entries) {
    if (name != key && inline_yaml_text(value) != inline_yaml_text(*defaults.find(name))) {
      return mapping;
    }
  }
  return *mapping.find(key);
}

}  // namespace config_detail
}  // namespace braid
