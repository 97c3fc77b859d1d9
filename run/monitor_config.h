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

struct MonitorSection {
  static constexpr const char* kScalarKey = "which";
  static constexpr bool kListToo = true;
  MonitorSet which = MonitorSet::all();
  int64_t every_steps = 100;
  int64_t tokens = 256;
  int64_t dead_after_steps = 100;

  bool measures(int64_t step) const { return !which.empty() && step % every_steps == 0; }

  template <class Visitor>
  static void fields(Visitor& v) {
    using M = MonitorSection;
    v("which",
      &M::which,
      "of updates, weights, attention, experts, swiglu, residual, mtp; the others cost nothing");
    v("every_steps", &M::every_steps, "steps between measurements, but of mtp", at_least(1));
    v("tokens",
      &M::tokens,
      "that attention, swiglu and residual look at: as many of one micro-batch of each rank",
      at_least(1));
    v("dead_after_steps",
      &M::dead_after_steps,
      "steps without a token after which an expert counts as dead",
      at_least(1));
  }
};

}  // namespace braid
