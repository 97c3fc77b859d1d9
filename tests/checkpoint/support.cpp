#include "tests/checkpoint/support.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <utility>

#include <ATen/ATen.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "core/random.h"
#include "tests/support/compare.h"

namespace braid::testing {
namespace {

/// Sets the soft limit and returns the one before.
rlim_t exchange_file_size_limit(rlim_t bytes) {
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlim_t old = std::exchange(limit.rlim_cur, bytes);
  require(setrlimit(RLIMIT_FSIZE, &limit) == 0, "cannot limit the size of files to ", bytes);
  return old;
}

at::Tensor random_bits_of(at::ScalarType dtype, std::vector<int64_t> shape) {
  auto tensor = at::empty(shape, dtype);
  auto* bytes = static_cast<unsigned char*>(tensor.mutable_data_ptr());
  const uint64_t key = random_key(1, c10::toString(dtype));
  for (std::size_t i = 0; i < tensor.nbytes(); ++i) {
    bytes[i] = static_cast<unsigned char>(random_bits(key, i));
  }
  if (dtype == at::kBool) {
    return at::bitwise_and(tensor.view(at::kByte), 1).view(at::kBool);
  }
  if (dtype == at::kDouble || dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16) {
    auto flat = tensor.flatten();
    flat[0] = std::numeric_limits<double>::infinity();
    flat[1] = -std::numeric_limits<double>::infinity();
    flat[2] = std::numeric_limits<double>::quiet_NaN();
    flat[3] = -0.0;
    std::memset(bytes + 4 * tensor.element_size(), 0, tensor.element_size());
    bytes[4 * tensor.element_size()] = 1;  // the smallest denormal
  }
  return tensor;
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "braid-test-XXXXXX").string();
  require(mkdtemp(name.data()) != nullptr, "cannot create ", name);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::filesystem::remove_all(path_);
}

FileSizeLimit::FileSizeLimit(std::size_t bytes)
    : old_handler_(std::signal(SIGXFSZ, SIG_IGN)), old_limit_(exchange_file_size_limit(bytes)) {}

FileSizeLimit::~FileSizeLimit() {
  exchange_file_size_limit(old_limit_);
  std::signal(SIGXFSZ, old_handler_);
}

std::vector<NamedTensor> tensors_of_every_kind(const std::string& prefix) {
  std::vector<NamedTensor> tensors;
  for (const auto dtype : {at::kByte,
                           at::kDouble,
                           at::kFloat,
                           at::kHalf,
                           at::kBFloat16,
                           at::kLong,
                           at::kInt,
                           at::kShort,
                           at::kChar,
                           at::kBool,
                           at::kFloat8_e4m3fn,
                           at::kFloat8_e8m0fnu}) {
    tensors.push_back({prefix + c10::toString(dtype) + ".weight", random_bits_of(dtype, {5, 131})});
  }
  tensors.push_back({prefix + "scalar", at::scalar_tensor(2.5, at::kDouble)});
  tensors.push_back({prefix + "empty", at::empty({0, 3}, at::kFloat)});
  tensors.push_back({prefix + "strided", random_bits_of(at::kFloat, {4, 6}).t()});
  tensors.push_back({prefix + "tid2eid", at::arange(12).reshape({6, 2})});
  return tensors;
}

void expect_same_tensors(std::vector<NamedTensor> got, std::vector<NamedTensor> want) {
  ASSERT_EQ(got.size(), want.size());
  const auto by_name = [](const auto& a, const auto& b) { return a.name < b.name; };
  std::sort(got.begin(), got.end(), by_name);
  std::sort(want.begin(), want.end(), by_name);
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].name, want[i].name);
    if (want[i].value.numel() > 0) {
      expect_bitwise_equal(want[i].name, got[i].value, want[i].value);
    } else {
      EXPECT_EQ(got[i].value.sizes(), want[i].value.sizes());
    }
  }
}

void flip_bit(const std::filesystem::path& path, std::size_t byte) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(byte));
  const char flipped = static_cast<char>(file.get() ^ 16);
  file.seekp(static_cast<std::streamoff>(byte));
  file.put(flipped);
  require(file.good(), "cannot flip a bit of ", path.string());
}

}  // namespace braid::testing
