#pragma once
#include <c10/core/Device.h>

#include "parallel/communicator.h"
#include "run/config.h"

namespace braid {

/// Compares what the run needs (plan/room.h) with the memory of the machines that its ranks are on,
/// that of their GPUs, and the disk of its folder. What cannot work is an Error unless `go_on`;
/// what may not work is a warning on standard output. Every rank calls this, with its device.
void check_room(const RunConfig& config, at::Device device, bool go_on, Communicator& ranks);

}  // namespace braid
