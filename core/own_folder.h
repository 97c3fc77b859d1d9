#pragma once
// Folders that Braid makes, and so may change and clear.
#include <filesystem>
#include <memory>
#include <string>

#include "core/folder_lock.h"

namespace braid {

/// The file that says so: in a folder with it, Braid writes, replaces and removes.
inline constexpr const char* kOwnFolderMarker = ".braid";

bool is_own_folder(const std::filesystem::path& folder);

/// Makes `folder` and its parents, or takes one that is there: empty, or marked. `recognized`: what
/// lies in it is known to be ours, as of a version without markers. Throws Error naming something
/// that lies in a folder of someone else, with `advice`.
void make_own_folder(const std::filesystem::path& folder,
                     const std::string& advice,
                     bool recognized = false);

/// A folder that appears whole or not at all: it grows as `path`.partial, which one process at a
/// time may write, and stays there without commit().
class GrowingFolder {
 public:
  /// Throws Error where `path` exists, where `path`.partial is not ours, and with `message` where
  /// another process writes it.
  GrowingFolder(const std::filesystem::path& path, const std::string& message);

  const std::filesystem::path& partial() const { return partial_; }
  /// Removes what an earlier process left in it.
  void clear() const;
  /// Forces the folder's entries to the disk and renames it.
  void commit();

 private:
  std::filesystem::path path_, partial_;
  std::unique_ptr<FolderLock> lock_;
};

}  // namespace braid
