#pragma once
#include <string>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

namespace braid {

struct GemmPeak {
  double flops = 0;    ///< operations per second
  std::string kernel;  ///< what reached it
};

/// How fast a device multiplies matrices of this type, the CPU on all of LibTorch's threads: the
/// best kernel there is, on the shape that suits it, in the best of the samples that fit into
/// `seconds`.
/// The yardstick of everything that Braid says about its speed; to be compared with what was
/// measured in the same run only.
GemmPeak gemm_peak(at::ScalarType type, at::Device device = at::kCPU, double seconds = 0.3);

}  // namespace braid
