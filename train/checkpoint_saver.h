#pragma once
#include <filesystem>
#include <future>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/store.h"
#include "parallel/communicator.h"

namespace braid {

/// Saves checkpoints of a run, every rank its own shard, while training goes on: the tensors, of
/// any device, are copied to the host, and a thread writes the copies. A checkpoint is complete or
/// absent: each rank writes its shard into `<folder>.tmp` and forces it to the disk; then rank 0
/// adds the index and COMPLETE and renames the folder.
///
/// Every rank calls start(), poll() and finish() at the same points between steps.
class CheckpointSaver {
 public:
  /// `background`: copy, and write the copies in a thread; otherwise start() returns once
  /// everything is written. Deflate levels are 1 to 9, 0 = no compression.
  CheckpointSaver(Communicator& ranks, bool background, int deflate_level);

  /// Starts to save as `folder`, after finishing an earlier save. `files` are rank 0's.
  void start(const std::filesystem::path& folder,
             const std::vector<TensorPiece>& pieces,
             Hdf5Attributes state,
             std::map<std::string, std::string> files);

  /// Completes the save under way if every rank has written; then returns its folder. Throws on
  /// all ranks what failed on any.
  std::optional<std::filesystem::path> poll();
  /// Waits for the save under way and completes it.
  std::optional<std::filesystem::path> finish();

  /// How long the last completed save kept the caller waiting.
  double waited_seconds() const { return waited_seconds_; }

 private:
  std::optional<std::filesystem::path> complete();
  std::vector<TensorPiece> copied(const std::vector<TensorPiece>& pieces);

  Communicator& ranks_;
  bool background_;
  int deflate_level_;
  std::filesystem::path folder_;  // of the save under way; empty = none
  std::vector<TensorPiece> pieces_;
  Hdf5Attributes state_;
  std::map<std::string, std::string> files_;
  double waited_seconds_ = 0;
  std::vector<at::Tensor> buffers_;  // of the last copies, reused
  std::future<FileRecord> written_;  // the last member, so that its thread ends first
};

}  // namespace braid
