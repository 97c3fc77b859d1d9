#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace braid {

struct CudaKernels;  // kernels/cuda/kernels.h

/// What an operation runs on tensors of a device. Each operation asks once, behind its checks:
///
///   if (kernel_of(x) == Kernel::kPlain) {
///     return op_reference(...);
///   }
///
/// Correctness never waits for a kernel: every operation has a plain LibTorch twin, op_reference(),
/// that runs on any device and has the operation's gradients, and a device without kernels of ours
/// takes it. A twin therefore makes every tensor with the options of one of its arguments, never on
/// the CPU by default, and reads no element on the host.
///
/// Checks that would read elements (are these indices in range?) are made on the CPU only: on
/// another device each of them waits for all the work that is queued there.
enum class Kernel {
  kCpu,    ///< kernels/op_cpu.cpp: threads, and the loops of kernels/cpu
  kCuda,   ///< kernels/cuda/op.cu, where the device's table has the operation for x's type
  kPlain,  ///< the twin
};

/// For operations that have no kernel but the CPU's; kernels/run_kernel.h has it for the others.
inline Kernel kernel_of(const at::Tensor& x) {
  return x.is_cpu() ? Kernel::kCpu : Kernel::kPlain;
}

/// Kernels for tensors of one type of device, and how to get the stream on which LibTorch's own
/// operations are queued on a device at the moment (a cudaStream_t).
struct DeviceKernels {
  const CudaKernels* table = nullptr;
  void* (*current_stream)(c10::Device) = nullptr;
};

/// Returns when a device has done all that it was given; at once for the CPU.
void wait_for(c10::Device device);

/// Makes operations on tensors of this type of device run these kernels, or, by an empty
/// DeviceKernels, their twins again. The library with the CUDA kernels does it when it is opened;
/// not while another thread computes.
void register_device_kernels(c10::DeviceType type, const DeviceKernels& kernels);

/// What was registered for a type of device; a null table where nothing was.
const DeviceKernels& device_kernels(c10::DeviceType type);

}  // namespace braid
