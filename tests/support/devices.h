#pragma once
#include <vector>

#include <c10/core/Device.h>

namespace braid::testing {

/// The devices that operations are tested on: the CPU, and one that treats its users as a GPU does
/// (tests/support/strict_device.h).
std::vector<c10::Device> devices();

}  // namespace braid::testing
