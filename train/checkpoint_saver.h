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

/// Saves checkpoints of a run, every rank its own shard, while training goes on: the tensors are
/// copied, and a thread writes the copies. A checkpoint is complete or absent: each shard is
/// written to `<folder>.tmp` and forced to the disk; once every rank has, rank 0 adds the index and
/// COMPLETE and renames the folder.
///
/// Every rank calls start(), poll() and finish() at the same points between steps.
class CheckpointSaver {
 public:
  /// `background`: copy and write in a thread; otherwise start() returns when all is written.
  /// Deflate levels are 1 to 9, 0 = not compressed.
  CheckpointSaver(Communicator& ranks, bool background, int deflate_level);

  /// Begins to save as `folder`. An earlier save is finished first. `files` are rank 0's.
  void start(const std::filesystem::path& folder,
             const std::vector<TensorPiece>& pieces,
             Hdf5Attributes state,
             std::map<std::string, std::string> files);

  /// Completes the save under way if every rank has written; then returns its folder. Throws on
  /// all ranks what failed on any.
  std::optional<std::filesystem::path> poll();
  /// Waits for the save under way and completes it.
  std::optional<std::filesystem::path> finish();

  /// For how long the last save that was completed kept the caller waiting.
  double held_up_seconds() const { return held_up_seconds_; }

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
  double held_up_seconds_ = 0;
  std::vector<at::Tensor> buffers_;  // of the last copies, used again
  std::future<FileRecord> written_;  // the last member: its thread ends first
};

}  // namespace braid
