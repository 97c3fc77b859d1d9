#pragma once
#include <memory>

#include "parallel/communicator.h"

namespace braid::testing {

/// The same ranks for tensors of any device: those of the CPU travel through `host` as they are,
/// others as copies on the host. Both the start of an exchange and Pending::wait() then wait for
/// the device.
std::unique_ptr<Communicator> through_host(std::unique_ptr<Communicator> host);

}  // namespace braid::testing
