#pragma once
#include <ATen/core/Tensor.h>

namespace braid {

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
  kPlain,  ///< the twin
};

inline Kernel kernel_of(const at::Tensor& x) {
  return x.is_cpu() ? Kernel::kCpu : Kernel::kPlain;
}

}  // namespace braid
