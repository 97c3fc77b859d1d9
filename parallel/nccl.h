#pragma once
#include <memory>

#include "parallel/communicator.h"

namespace braid {

/// The same ranks for tensors on GPUs too: those of the CPU travel through `host`, those of a CUDA
/// device through NCCL, which starts with the first of them; one device for each rank. In a build
/// without CUDA it is `host` itself (no_nccl.cpp).
///
/// An exchange of device tensors runs on a stream of its own, after what its tensors' stream was
/// given before. Pending::wait() returns when it is over, as for host tensors; it throws when NCCL
/// reports an error of any rank or it takes too long, and what NCCL has under way is then aborted.
std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host);

}  // namespace braid
