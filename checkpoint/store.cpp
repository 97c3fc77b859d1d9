#include "checkpoint/store.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <memory>
#include <utility>

#include "checkpoint/history.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/file.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndex = "index.h5";
constexpr const char* kState = "state";

/// A folder that is removed again unless it was kept.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(fs::path path) : path_(std::move(path)) {
    fs::remove_all(path_);
    fs::create_directory(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;  // an error is on its way already
    fs::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

void require_file_name(const std::string& name) {
  require(!name.empty() && name[0] != '.' && name.find_first_of("/ \t\n") == std::string::npos &&
              !name.ends_with(".h5") && name != "COMPLETE",
          "'",
          name,
          "' cannot be the name of a file in a checkpoint");
}

std::vector<NamedTensor> views_of_shard(const fs::path& path) {
  const auto shard = Hdf5File::open(path);
  const auto mapped = std::make_shared<const MappedFile>(path);
  std::vector<NamedTensor> tensors;
  for (const auto& name : shard.tensor_names()) {
    tensors.push_back({name, shard.view_tensor(name, mapped)});
  }
  return tensors;
}

}  // namespace

std::string shard_name(std::size_t shard, std::size_t shards) {
  char name[64];
  std::snprintf(name, sizeof name, "shard-%05zu-of-%05zu.h5", shard, shards);
  return name;
}

void write_shard(const fs::path& file,
                 const std::vector<NamedTensor>& tensors,
                 const std::function<void(const NamedTensor&)>& after_each) {
  const fs::path temporary = file.string() + ".tmp";
  auto shard = Hdf5File::create(temporary);
  for (const auto& tensor : tensors) {
    shard.write_tensor(tensor.name, tensor.value);
    if (after_each) {
      after_each(tensor);
    }
  }
  shard.close();
  fsync_path(temporary);
  fs::rename(temporary, file);
}

void complete_checkpoint(const fs::path& folder,
                         const std::vector<std::vector<NamedTensor>>& shards,
                         const Hdf5Attributes& state,
                         const std::map<std::string, std::string>& files) {
  std::vector<std::string> names;
  auto index = Hdf5File::create(folder / kIndex);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    names.push_back(shard_name(i, shards.size()));
    for (const auto& [name, value] : shards[i]) {
      index.write_virtual(name, value, names.back());
    }
  }
  index.write_attributes(kState, state);
  index.close();
  fsync_path(folder / kIndex);
  names.push_back(kIndex);
  for (const auto& [name, contents] : files) {
    require_file_name(name);
    write_file_atomically(folder / name, contents);
    names.push_back(name);
  }
  write_manifest(folder, names);
}

void save_checkpoint(const fs::path& path,
                     const Checkpoint& checkpoint,
                     const std::map<std::string, std::string>& files) {
  require(path.has_filename(), "'", path.string(), "' does not end in the name of a checkpoint");
  const fs::path root = path.has_parent_path() ? path.parent_path() : fs::path(".");
  try {
    fs::create_directories(root);
    remove_leftovers(root);
    const TemporaryFolder folder(path.string() + ".tmp");
    write_shard(folder.path() / shard_name(0, 1), checkpoint.tensors);
    complete_checkpoint(folder.path(), {checkpoint.tensors}, checkpoint.state, files);
    put_in_place(folder.path(), path);
    write_file_atomically(root / "latest", path.filename().string() + "\n");
  } catch (const std::exception& error) {
    fail("cannot save the checkpoint ",
         path.string(),
         ": ",
         error.what(),
         ". Earlier checkpoints in ",
         root.string(),
         " are untouched.");
  }
}

Checkpoint load_checkpoint(const fs::path& path, LoadOptions options) {
  const auto records = check_manifest(path, options.verify ? Check::kDigests : Check::kSizes);
  Checkpoint checkpoint;
  for (const auto& record : records) {
    if (record.name.starts_with("shard-")) {
      auto tensors = views_of_shard(path / record.name);
      std::ranges::move(tensors, std::back_inserter(checkpoint.tensors));
    }
  }
  std::ranges::sort(checkpoint.tensors, {}, &NamedTensor::name);
  checkpoint.state = checkpoint_state(path);
  return checkpoint;
}

Hdf5Attributes checkpoint_state(const fs::path& path) {
  return Hdf5File::open(path / kIndex).read_attributes(kState);
}

}  // namespace braid
