#pragma once
#include <memory>

#include "parallel/communicator.h"

namespace braid {

/// The same ranks for tensors on GPUs too: those of the CPU travel through `host`, those of a CUDA
/// device through NCCL, which the first of them starts (cuda_plugin.h); one device for each rank.
/// device_communicator.h says how device tensors are exchanged. Once an exchange of the device has
/// failed, every call throws that.
std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host);

}  // namespace braid
