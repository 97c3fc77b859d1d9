#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "run/progress.h"

namespace braid {

/// The result of checking one file; without a `problem` it is sound.
struct FileVerdict {
  std::filesystem::path file;
  std::string problem;
};

/// Collects verdicts about the files at or below a path and shows its progress.
class Verification {
 public:
  explicit Verification(const std::filesystem::path& path);

  /// Runs a check of one file; what it throws is the file's problem. Returns whether it is sound.
  bool check(const std::filesystem::path& file, const std::function<void()>& action);

  /// Drops the verdicts on files below a folder that is no longer there.
  void forget(const std::filesystem::path& folder);

  bool sound() const;
  const std::vector<FileVerdict>& verdicts() const { return verdicts_; }

 private:
  std::vector<FileVerdict> verdicts_;
  int64_t checked_bytes_ = 0, all_bytes_ = 0;
  Progress progress_{"checked bytes"};
};

}  // namespace braid
