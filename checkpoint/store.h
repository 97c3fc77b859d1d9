#pragma once
// A checkpoint on disk:
//   step-00001000/shard-00000-of-00001.h5  the tensors
//                 index.h5                 every tensor whole, as virtual datasets over the shards;
//                 /state config.yaml, ...         small files handed over by the caller COMPLETE
//                 written last: version, sizes and digests (manifest.h)
// and beside it `latest`, a hint for people; programs ask newest_complete_checkpoint().
#include <filesystem>
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

/// Reads a whole checkpoint, tensors sorted by name. Throws Error naming the file that is missing,
/// damaged or of another version.
Checkpoint load_checkpoint(const std::filesystem::path& path, LoadOptions options = {});

/// The state alone, of a checkpoint whose digests are not compared.
Hdf5Attributes checkpoint_state(const std::filesystem::path& path);

}  // namespace braid
