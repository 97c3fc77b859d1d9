#pragma once
#include <filesystem>

#include "parallel/communicator.h"

namespace braid {

/// Throws Error unless every rank sees in `folder` what rank 0 writes there: ranks on machines that
/// do not share it would find that out at the first checkpoint only. Caches of a network file
/// system get `seconds` to notice. Every rank calls this.
void require_shared_folder(const std::filesystem::path& folder,
                           Communicator& ranks,
                           double seconds = 3);

}  // namespace braid
