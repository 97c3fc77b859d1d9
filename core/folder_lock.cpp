#include "core/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/error.h"

namespace braid {

FolderLock::FolderLock(const std::filesystem::path& folder, const std::string& message)
    : descriptor_(open((folder / ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644)) {
  require(descriptor_ >= 0, folder.string(), ": cannot be written");
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    close(descriptor_);
    fail(folder.string(), ": ", message);
  }
}

FolderLock::~FolderLock() {
  close(descriptor_);
}

}  // namespace braid
