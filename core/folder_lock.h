#pragma once
#include <filesystem>
#include <string>

namespace braid {

/// Held by the one process that may write to a folder (flock on its file ".lock"); the system lets
/// go of it when the process ends, however it ends.
class FolderLock {
 public:
  /// Throws Error with `message` behind the folder's name when another process holds it.
  FolderLock(const std::filesystem::path& folder, const std::string& message);
  ~FolderLock();
  /// Whether a process holds it now. Never waits, and makes no file.
  static bool is_held(const std::filesystem::path& folder);
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace braid
