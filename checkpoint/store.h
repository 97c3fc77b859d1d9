#pragma once
// A checkpoint on disk:
//   step-00001000/shard-00000-of-00001.h5  the tensors
//                 index.h5                 every tensor whole, as virtual datasets over the shards,
//                                          and the state
//                 config.yaml, ...         small files handed over by the caller
//                 COMPLETE                 written last: version, sizes, digests (manifest.h)
// and beside it `latest`, a hint for people; programs ask newest_complete_checkpoint().
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/hdf5.h"
#include "core/named_tensor.h"

namespace braid {

struct Checkpoint {
  /// Names are paths in the HDF5 file: "model/<release name>", "optimizer/<release name>/momentum".
  std::vector<NamedTensor> tensors;
  Hdf5Attributes state;  // step, tokens, position in the data, ...
};

/// Saves a checkpoint as the folder `path`, whole or not at all: it is written to `path` + ".tmp",
/// forced to the disk and renamed. A checkpoint already there is replaced once the new one is
/// whole; what a killed run left behind is removed first. `files` maps names to contents of small
/// files. Throws Error on any failure, a full disk included; the folder's other checkpoints stay
/// good.
void save_checkpoint(const std::filesystem::path& path,
                     const Checkpoint& checkpoint,
                     const std::map<std::string, std::string>& files = {});

struct LoadOptions {
  bool verify = true;  // compare every file's digest before reading; sizes are always compared
};

/// Opens a checkpoint: its tensors, sorted by name, are views of the mapped shards, read when they
/// are used and not to be written to. Throws Error naming the file that is missing, damaged or of
/// another version.
Checkpoint load_checkpoint(const std::filesystem::path& path, LoadOptions options = {});

/// A checkpoint written shard by shard, for what is larger than memory: first each shard into an
/// existing folder, where it appears whole or not at all; then what makes a checkpoint of them.
/// `after_each` is called once a tensor is written.
std::string shard_name(std::size_t shard, std::size_t shards);
void write_shard(const std::filesystem::path& file,
                 const std::vector<NamedTensor>& tensors,
                 const std::function<void(const NamedTensor&)>& after_each = {});
void complete_checkpoint(const std::filesystem::path& folder,
                         const std::vector<std::vector<NamedTensor>>& shards,
                         const Hdf5Attributes& state,
                         const std::map<std::string, std::string>& files);

/// The state alone, of a checkpoint whose digests are not compared.
Hdf5Attributes checkpoint_state(const std::filesystem::path& path);

}  // namespace braid
