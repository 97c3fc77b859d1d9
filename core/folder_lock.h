#pragma once
#include <filesystem>
#include <functional>
#include <string>

namespace braid {

/// Held by the one process that may write to a folder (flock on its file ".lock"); the system lets
/// go of it when the process ends, however it ends.
class FolderLock {
 public:
  /// flock(2), or in tests one that fails.
  using Lock = std::function<int(int descriptor, int operation)>;

  /// Throws Error with `message` behind the folder's name when another process holds it. Where the
  /// file system keeps no locks (some NFS and FUSE ones), the folder is used without: warning().
  FolderLock(const std::filesystem::path& folder, const std::string& message);
  FolderLock(const std::filesystem::path& folder, const std::string& message, const Lock& lock);
  ~FolderLock();
  /// Whether a process holds it now. Never waits, and makes no file.
  static bool is_held(const std::filesystem::path& folder);
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

  /// One line for people where nothing is held; else empty.
  const std::string& warning() const { return warning_; }

 private:
  int descriptor_;
  std::string warning_;
};

}  // namespace braid
