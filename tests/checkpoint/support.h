#pragma once
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/named_tensor.h"

namespace braid::testing {

/// A new empty folder that is removed at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

/// While it lives, no file can grow beyond this size: writes fail with EFBIG ("File too large") as
/// they fail with ENOSPC on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::size_t bytes);
  ~FileSizeLimit();
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  sighandler_t old_handler_;
  std::size_t old_limit_;
};

/// Tensors of every dtype that files can hold: random bits, so that floats include NaNs of many
/// payloads and denormals, with infinities and both zeros added; a scalar, an empty and a strided
/// one. Names are `prefix` + something.
std::vector<NamedTensor> tensors_of_every_kind(const std::string& prefix);

/// Same names (in any order), shapes, dtypes and bits.
void expect_same_tensors(std::vector<NamedTensor> got, std::vector<NamedTensor> want);

/// Inverts one bit of a file.
void flip_bit(const std::filesystem::path& path, std::size_t byte);

/// The message of the Error that the function throws; fails the test if it throws none.
template <class Function>
std::string error_of(Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return {};
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace braid::testing
