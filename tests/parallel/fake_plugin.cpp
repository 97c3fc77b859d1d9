// A libbraid_cuda.so without CUDA: the environment says what machine it finds.
#include <cstdlib>

#include "parallel/cuda_plugin.h"

namespace {

int number(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? 0 : std::atoi(value);
}

}  // namespace

extern "C" {

extern const char braid_cuda_plugin_stamp[];
const char braid_cuda_plugin_stamp[] = FAKE_STAMP;

const braid::CudaPlugin* braid_cuda_plugin() {
  static const braid::CudaPlugin plugin = [] {
    braid::CudaPlugin fake;
    fake.cuda_version = 13000;
    fake.driver_version = [] { return number("BRAID_FAKE_DRIVER"); };
    fake.device_count = [] { return number("BRAID_FAKE_DEVICES"); };
    fake.device_problem = [] { return std::string("no device of the test"); };
    fake.device = [](int) {
      braid::CudaDevice device;
      device.name = "a GPU of the test";
      return device;
    };
    return fake;
  }();
  return &plugin;
}

}  // extern "C"
