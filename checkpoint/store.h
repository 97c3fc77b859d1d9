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
#include "checkpoint/manifest.h"
#include "core/named_tensor.h"

namespace braid {

inline constexpr const char* kIndexFile = "index.h5";

struct Checkpoint {
  /// Names are paths in the HDF5 file: "model/<release name>", "optimizer/<release name>/momentum".
  std::vector<NamedTensor> tensors;
  Hdf5Attributes state;  // step, tokens, position in the data, ...
  /// Without `assemble`, the tensors that several ranks wrote pieces of; by name and offset.
  std::vector<TensorPiece> pieces = {};
};

/// Saves a checkpoint as the folder `path`, whole or not at all: it is written to `path` + ".tmp",
/// forced to the disk and renamed. A checkpoint already there is replaced once the new one is
/// complete; leftovers of a killed run are removed first. `files` maps names to contents of small
/// files. Throws Error on any failure, a full disk included; other checkpoints in the folder are
/// not touched.
void save_checkpoint(const std::filesystem::path& path,
                     const Checkpoint& checkpoint,
                     const std::map<std::string, std::string>& files = {});

struct LoadOptions {
  bool verify = true;  // compare every file's digest before reading; sizes are always compared
  /// Ranks that load together each compare their share of the files.
  int64_t part = 0, parts = 1;
  bool assemble = true;  // join pieces into whole tensors, in memory
};

/// Opens a checkpoint: its tensors, sorted by name, are views of the mapped shards, read when they
/// are used and not to be written to. Throws Error naming the file that is missing, damaged or of
/// another version.
Checkpoint load_checkpoint(const std::filesystem::path& path, LoadOptions options = {});

/// Copies the rows of piece.value out of the checkpoint. False when it has no such tensor, or of
/// another shape.
bool read_piece(const Checkpoint& checkpoint, const TensorPiece& piece);

/// A checkpoint written shard by shard, by several ranks or because it is larger than memory: first
/// each shard into an existing folder, where it appears whole or not at all; then what makes a
/// checkpoint of them. `after_each` is called once a tensor is written.
std::string shard_name(std::size_t shard, std::size_t shards);
FileRecord write_shard(const std::filesystem::path& file,
                       const std::vector<TensorPiece>& tensors,
                       const std::function<void(const TensorPiece&)>& after_each = {},
                       int deflate_level = 0);
/// Values of `shards` are not used, except of scalars and empty tensors. Shards whose `records` are
/// given are not read again.
void complete_checkpoint(const std::filesystem::path& folder,
                         const std::vector<std::vector<TensorPiece>>& shards,
                         const Hdf5Attributes& state,
                         const std::map<std::string, std::string>& files,
                         const std::vector<FileRecord>& records = {});

std::vector<TensorPiece> whole(const std::vector<NamedTensor>& tensors);

/// The state alone; no digests are compared.
Hdf5Attributes checkpoint_state(const std::filesystem::path& path);

}  // namespace braid
