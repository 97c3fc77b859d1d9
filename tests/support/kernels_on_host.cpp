#include "tests/support/kernels_on_host.h"

#include "kernels/cuda/kernels.h"
#include "kernels/device.h"
#include "tests/cuda_on_host/cuda_on_host.h"
#include "tests/support/strict_device.h"

namespace braid::testing {

KernelsOnHost::KernelsOnHost(std::uint64_t order, int compute_capability)
    : launched_before_(on_host::launches()) {
  on_host::set_order(order);
  on_host::set_compute_capability(compute_capability);
  on_host::set_memory_guard(&allow_access_to_strict_memory);
  register_device_kernels(strict_device().type(),
                          {&cuda_kernel_table(), [](c10::Device) -> void* { return nullptr; }});
}

KernelsOnHost::~KernelsOnHost() {
  register_device_kernels(strict_device().type(), {});
  on_host::set_memory_guard(nullptr);
  on_host::set_order(0);
  on_host::set_compute_capability(9);
}

std::int64_t KernelsOnHost::launches() const {
  return on_host::launches() - launched_before_;
}

}  // namespace braid::testing
