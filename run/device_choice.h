#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include <c10/core/Device.h>

#include "core/config.h"

namespace braid {

/// Where a model computes, as train.device and --device spell it: `cpu`, `cuda` or `cuda:N`.
struct DeviceChoice {
  enum class Kind { kCpu, kCuda };
  Kind kind = Kind::kCpu;
  std::optional<int64_t> number = {};  ///< of `cuda:N`

  static constexpr const char* kConfigKind = "cpu | cuda | cuda:N";
  static DeviceChoice from_config(const ConfigNode& node,
                                  const std::string& path,
                                  ConfigPlaces& places);
  ConfigNode to_config() const { return ConfigNode::text(spelled()); }
  /// Nothing for text that is none of the three.
  static std::optional<DeviceChoice> parse(const std::string& text);
  std::string spelled() const;
};

/// The device of this process. Of `cuda` it is the one of the process's number among those of its
/// machine that mpirun started, modulo the devices there are. Throws Error that begins with
/// `asked_by` ("train.device") where there is no such device.
at::Device device_of(const DeviceChoice& choice, const std::string& asked_by);

}  // namespace braid
