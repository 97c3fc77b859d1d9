#include "tests/support/devices.h"

#include <cstdlib>

#include "run/device_choice.h"
#include "tests/support/strict_device.h"

namespace braid::testing {

std::vector<c10::Device> devices() {
  std::vector<c10::Device> all = {c10::Device(c10::kCPU)};
  if (std::getenv("BRAID_TEST_CPU_ALONE") != nullptr) {
    return all;
  }
  all.push_back(strict_device());
  if (std::getenv("BRAID_TEST_CUDA") != nullptr) {
    all.push_back(device_of({DeviceChoice::Kind::kCuda, 0}, "BRAID_TEST_CUDA"));
  }
  return all;
}

}  // namespace braid::testing
