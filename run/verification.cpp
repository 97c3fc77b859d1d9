#include "run/verification.h"

#include <algorithm>

#include "core/error_message.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

int64_t size_of(const fs::path& file) {
  std::error_code absent;
  const auto size = fs::file_size(file, absent);
  return absent ? 0 : static_cast<int64_t>(size);
}

}  // namespace

Verification::Verification(const fs::path& path) {
  if (!fs::is_directory(path)) {
    all_bytes_ = size_of(path);
    return;
  }
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    all_bytes_ += entry.is_regular_file() ? size_of(entry.path()) : 0;
  }
}

bool Verification::check(const fs::path& file, const std::function<void()>& action) {
  FileVerdict verdict{file, ""};
  try {
    action();
  } catch (const std::exception& error) {
    verdict.problem = message_of(error);
  }
  verdicts_.push_back(verdict);
  checked_bytes_ += size_of(file);
  progress_.update(checked_bytes_, all_bytes_);
  return verdict.problem.empty();
}

void Verification::forget(const fs::path& folder) {
  std::erase_if(verdicts_, [&folder](const FileVerdict& verdict) {
    return verdict.file.parent_path() == folder;
  });
}

bool Verification::sound() const {
  return std::all_of(verdicts_.begin(), verdicts_.end(), [](const FileVerdict& verdict) {
    return verdict.problem.empty();
  });
}

}  // namespace braid
