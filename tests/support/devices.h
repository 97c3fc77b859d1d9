#pragma once
#include <vector>

#include <c10/core/Device.h>

namespace braid::testing {

/// The devices that operations are tested on: the CPU, and one that treats its users as a GPU does
/// (tests/support/strict_device.h); with the variable BRAID_TEST_CUDA, which scripts/gpu_check.sh
/// sets, also the first GPU, with Braid's kernels. Throws Error where there is none then. With
/// BRAID_TEST_CPU_ALONE the CPU alone, for tests of its instruction sets.
std::vector<c10::Device> devices();

}  // namespace braid::testing
