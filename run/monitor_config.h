#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/config.h"

namespace braid {

/// What of a run's health is measured beside losses and gradients. docs/monitors.md says which keys
/// of metrics.jsonl each gives.
enum class Monitor {
  kUpdates,    ///< size and orthogonality of the optimizer's updates
  kWeights,    ///< size of the weights
  kAttention,  ///< logits, and what attention falls on
  kExperts,    ///< how even their load is
  kSwiglu,     ///< how much is clamped
  kResidual,   ///< how mHC mixes the streams
  kMtp,        ///< the MTP loss beside the loss
};
inline auto enum_names(Monitor) {
  return std::array{EnumName{"updates", Monitor::kUpdates},
                    EnumName{"weights", Monitor::kWeights},
                    EnumName{"attention", Monitor::kAttention},
                    EnumName{"experts", Monitor::kExperts},
                    EnumName{"swiglu", Monitor::kSwiglu},
                    EnumName{"residual", Monitor::kResidual},
                    EnumName{"mtp", Monitor::kMtp}};
}

/// As YAML has it: `all`, `none`, or a list of names.
class MonitorSet {
 public:
  static MonitorSet all();
  static MonitorSet of(std::initializer_list<Monitor> monitors);

  bool contains(Monitor monitor) const { return (bits_ & bit(monitor)) != 0; }
  bool empty() const { return bits_ == 0; }
  bool operator==(const MonitorSet&) const = default;

  static constexpr const char* kConfigKind = "all | none | [name, ...]";
  static MonitorSet from_config(const ConfigNode& node,
                                const std::string& path,
                                ConfigPlaces& places);
  ConfigNode to_config() const;

 private:
  static uint32_t bit(Monitor monitor) { return 1u << static_cast<uint32_t>(monitor); }

  uint32_t bits_ = 0;
};

}  // namespace braid
