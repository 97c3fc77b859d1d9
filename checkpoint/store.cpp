#include "checkpoint/store.h"

#include <utility>

#include "checkpoint/history.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/file.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kShard = "shard-00000-of-00001.h5";
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

void write_shard(const fs::path& folder, const Checkpoint& checkpoint) {
  auto shard = Hdf5File::create(folder / kShard);
  for (const auto& [name, value] : checkpoint.tensors) {
    shard.write_tensor(name, value);
  }
  shard.close();
  fsync_path(folder / kShard);
}

void write_index(const fs::path& folder, const Checkpoint& checkpoint) {
  auto index = Hdf5File::create(folder / kIndex);
  for (const auto& [name, value] : checkpoint.tensors) {
    index.write_virtual(name, value, kShard);
  }
  index.write_attributes(kState, checkpoint.state);
  index.close();
  fsync_path(folder / kIndex);
}

void require_file_name(const std::string& name) {
  require(!name.empty() && name[0] != '.' && name.find_first_of("/ \t\n") == std::string::npos &&
              name != kShard && name != kIndex && name != "COMPLETE",
          "'",
          name,
          "' cannot be the name of a file in a checkpoint");
}

}  // namespace

void save_checkpoint(const fs::path& path,
                     const Checkpoint& checkpoint,
                     const std::map<std::string, std::string>& files) {
  require(path.has_filename(), "'", path.string(), "' does not end in the name of a checkpoint");
  const fs::path root = path.has_parent_path() ? path.parent_path() : fs::path(".");
  try {
    fs::create_directories(root);
    remove_leftovers(root);
    const TemporaryFolder folder(path.string() + ".tmp");
    write_shard(folder.path(), checkpoint);
    write_index(folder.path(), checkpoint);
    std::vector<std::string> names = {kShard, kIndex};
    for (const auto& [name, contents] : files) {
      require_file_name(name);
      write_file_atomically(folder.path() / name, contents);
      names.push_back(name);
    }
    write_manifest(folder.path(), names);
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
  check_manifest(path, options.verify ? Check::kDigests : Check::kSizes);
  const auto index = Hdf5File::open(path / kIndex);
  Checkpoint checkpoint;
  for (const auto& name : index.tensor_names()) {
    checkpoint.tensors.push_back({name, index.read_tensor(name)});
  }
  checkpoint.state = index.read_attributes(kState);
  return checkpoint;
}

Hdf5Attributes checkpoint_state(const fs::path& path) {
  return Hdf5File::open(path / kIndex).read_attributes(kState);
}

}  // namespace braid
