#include "core/folder_lock.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/error.h"

namespace braid {

FolderLock::FolderLock(const std::filesystem::path& folder, const std::string& message)
    : FolderLock(folder, message, ::flock) {}

FolderLock::FolderLock(const std::filesystem::path& folder,
                       const std::string& message,
                       const Lock& lock)
    : descriptor_(open((folder / ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644)) {
  require(descriptor_ >= 0, folder.string(), ": cannot be written: ", std::strerror(errno));
  int error = 0;
  do {
    error = lock(descriptor_, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
  } while (error == EINTR);
  if (error == EWOULDBLOCK) {
    close(descriptor_);
    fail(folder.string(), ": ", message);
  }
  if (error != 0) {
    warning_ = text("warning: ",
                    folder.string(),
                    ": this file system keeps no locks (",
                    std::strerror(error),
                    "), so nothing notices a second process that writes here; start only one");
  }
}

bool FolderLock::is_held(const std::filesystem::path& folder) {
  const int descriptor = open((folder / ".lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    return false;
  }
  const bool held = flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(descriptor);
  return held;
}

FolderLock::~FolderLock() {
  close(descriptor_);
}

}  // namespace braid
