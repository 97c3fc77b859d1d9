#pragma once
// Operations that have a kernel in kernels/cuda choose and run it by these. The entry of the table
// (kernels/cuda/kernels.h) and the CPU driver have one name, but for the driver's _cpu, and one
// list of arguments, but for the stream.
#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#include "kernels/cuda/kernels.h"
#include "kernels/device.h"

namespace braid {

/// The entry `name` of a table, for kernel_of: kernel_of(x, BRAID_KERNEL(rms_norm_forward)).
#define BRAID_KERNEL(name) [](const auto& kernels) { return kernels.name; }

/// Whether a device has the kernel `entry` for a type of activations.
template <class Entry>
Kernel kernel_of(c10::Device device, at::ScalarType type, const Entry& entry) {
  if (device.is_cpu()) {
    return Kernel::kCpu;
  }
  const auto* table = device_kernels(device.type()).table;
  const bool has = table != nullptr && ((type == at::kFloat && entry(table->float32)) ||
                                        (type == at::kBFloat16 && entry(table->bfloat16)));
  return has ? Kernel::kCuda : Kernel::kPlain;
}

/// Whether the device of x has it for x's type.
template <class Entry>
Kernel kernel_of(const at::Tensor& x, const Entry& entry) {
  return kernel_of(x.device(), x.scalar_type(), entry);
}

/// The kernels of a device for elements E; none for double.
template <class E>
const CudaKernelsOf<E>& kernels_for(c10::Device device) {
  const auto* table = device_kernels(device.type()).table;
  if constexpr (std::is_same_v<E, float>) {
    return table->float32;
  } else if constexpr (std::is_same_v<E, Bfloat16>) {
    return table->bfloat16;
  } else {
    static constexpr CudaKernelsOf<E> kNone;
    return kNone;
  }
}

/// Queues a kernel on the current stream of x's device. kernel_of() said kCuda.
template <class E, class Entry, class... Arguments>
void queue_kernel(const at::Tensor& x, const Entry& entry, const Arguments&... arguments) {
  const c10::DeviceGuard guard(x.device());
  entry(kernels_for<E>(x.device()))(arguments...,
                                    device_kernels(x.device().type()).current_stream(x.device()));
}

/// Calls name_cpu(arguments...) for a tensor of the CPU, else the device's kernel `name`. E is the
/// type of activations.
#define BRAID_RUN(E, x, name, ...)                                    \
  do {                                                                \
    if ((x).is_cpu()) {                                               \
      name##_cpu(__VA_ARGS__);                                        \
    } else {                                                          \
      ::braid::queue_kernel<E>((x), BRAID_KERNEL(name), __VA_ARGS__); \
    }                                                                 \
  } while (false)

}  // namespace braid
