#pragma once
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

namespace braid {

/// A folder that is removed, with all that is in it, unless it has been renamed by then.
class TemporaryFolder {
 public:
  /// `made`: a folder that is there already.
  explicit TemporaryFolder(std::filesystem::path made) : path_(std::move(made)) {}
  ~TemporaryFolder() {
    std::error_code ignored;  // an exception may be on its way already
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A new folder "braid-NAME-..." in TMPDIR, or in /tmp. Throws Error where none can be made.
TemporaryFolder made_temporary_folder(const std::string& name);

}  // namespace braid
