#include "kernels/device.h"

#include <array>
#include <cstddef>

#include <c10/core/impl/VirtualGuardImpl.h>

#include "core/error.h"

namespace braid {
namespace {

using PerType =
    std::array<DeviceKernels, static_cast<std::size_t>(c10::COMPILE_TIME_MAX_DEVICE_TYPES)>;

DeviceKernels& registered(c10::DeviceType type) {
  static PerType kernels;
  return kernels.at(static_cast<std::size_t>(type));
}

}  // namespace

void wait_for(c10::Device device) {
  if (!device.is_cpu()) {
    c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
  }
}

void register_device_kernels(c10::DeviceType type, const DeviceKernels& kernels) {
  require(type != c10::kCPU && (kernels.table == nullptr) == (kernels.current_stream == nullptr),
          "[register_device_kernels] ",
          type,
          ": expected another device than the CPU, and a table together with its streams");
  registered(type) = kernels;
}

const DeviceKernels& device_kernels(c10::DeviceType type) {
  return registered(type);
}

}  // namespace braid
