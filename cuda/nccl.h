#pragma once
#include <memory>
#include <string>

#include "parallel/device_link.h"

namespace braid {

/// Those of CudaPlugin (parallel/cuda_plugin.h).
std::string nccl_id();
std::unique_ptr<DeviceLink> nccl_link(int device, int rank, int size, const std::string& id);

}  // namespace braid
