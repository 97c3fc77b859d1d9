#include "tests/support/devices.h"

#include "tests/support/strict_device.h"

namespace braid::testing {

std::vector<c10::Device> devices() {
  return {c10::Device(c10::kCPU), strict_device()};
}

}  // namespace braid::testing
