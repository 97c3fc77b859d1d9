#include "core/own_folder.h"

#include "core/error.h"
#include "core/file.h"
#include "core/output_place.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLock = ".lock";  // of FolderLock

}  // namespace

bool is_own_folder(const fs::path& folder) {
  std::error_code error;
  return fs::exists(folder / kOwnFolderMarker, error);
}

void make_own_folder(const fs::path& folder, const std::string& advice, bool recognized) {
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error && fs::is_directory(folder),
          folder.string(),
          ": cannot be made: ",
          error ? error.message() : "something else has this name");
  if (is_own_folder(folder)) {
    return;
  }
  // What a process leaves that was killed while it made the marker.
  const auto begun_marker = std::string(kOwnFolderMarker) + kTemporarySuffix;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    require(recognized || name == kLock || name == begun_marker,
            folder.string(),
            ": holds ",
            name,
            " and was not made by Braid, which would replace files there; ",
            advice,
            ". If Braid may write there, make an empty file ",
            (folder / kOwnFolderMarker).string());
  }
  write_file_atomically(folder / kOwnFolderMarker,
                        "Braid made this folder: it writes, replaces and removes files here.\n");
}

GrowingFolder::GrowingFolder(const fs::path& path, const std::string& message)
    : path_(path), partial_(path.string() + ".partial") {
  require_absent(path_, "remove it or choose another folder");
  make_own_folder(partial_, "move it or choose another folder");
  lock_ = std::make_unique<FolderLock>(partial_, message);
}

void GrowingFolder::clear() const {
  for (const auto& entry : fs::directory_iterator(partial_)) {
    const auto name = entry.path().filename();
    if (name != kLock && name != kOwnFolderMarker) {
      fs::remove_all(entry.path());
    }
  }
}

void GrowingFolder::commit() {
  fs::remove(partial_ / kLock);
  fsync_path(partial_);
  fs::rename(partial_, path_);
  fs::remove(path_ / kOwnFolderMarker);  // last: until then it may be taken up again
  fsync_path(path_.has_parent_path() ? path_.parent_path() : fs::path("."));
}

}  // namespace braid
