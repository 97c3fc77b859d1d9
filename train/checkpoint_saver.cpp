#include "train/checkpoint_saver.h"

#include <chrono>
#include <utility>

#include <ATen/ATen.h>

#include "checkpoint/history.h"
#include "checkpoint/shard_description.h"
#include "core/error.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

CheckpointSaver::CheckpointSaver(Communicator& ranks, bool background, int deflate_level)
    : ranks_(ranks), background_(background), deflate_level_(deflate_level) {}

std::vector<TensorPiece> CheckpointSaver::copied(const std::vector<TensorPiece>& pieces) {
  buffers_.resize(pieces.size());
  auto result = pieces;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    auto& buffer = buffers_[i];
    const auto& value = pieces[i].value;
    if (!buffer.defined() || buffer.sizes() != value.sizes() ||
        buffer.scalar_type() != value.scalar_type()) {
      const auto on_host = at::device(at::kCPU).dtype(value.scalar_type());
      buffer = at::empty(value.sizes(), on_host.pinned_memory(value.is_cuda()));
    }
    buffer.copy_(value.detach());
    result[i].value = buffer;
  }
  return result;
}

void CheckpointSaver::start(const fs::path& folder,
                            const std::vector<TensorPiece>& pieces,
                            Hdf5Attributes state,
                            std::map<std::string, std::string> files) {
  finish();
  const auto begin = std::chrono::steady_clock::now();
  const fs::path temporary = folder.string() + ".tmp";
  ranks_.first_alone(
      [&] {
        fs::create_directories(folder.parent_path());
        remove_leftovers(folder.parent_path());
        fs::create_directory(temporary);
      },
      "the checkpoint's folder");
  folder_ = folder;
  state_ = std::move(state);
  files_ = std::move(files);
  pieces_ = background_ ? copied(pieces) : pieces;
  const auto name =
      shard_name(static_cast<std::size_t>(ranks_.rank()), static_cast<std::size_t>(ranks_.size()));
  const auto write = [this, temporary, name] {
    return write_shard(temporary / name, pieces_, {}, deflate_level_);
  };
  written_ = std::async(background_ ? std::launch::async : std::launch::deferred, write);
  if (!background_) {
    written_.wait();
  }
  waited_seconds_ = seconds_since(begin);
}

std::optional<fs::path> CheckpointSaver::poll() {
  if (folder_.empty()) {
    return std::nullopt;
  }
  const bool done = written_.wait_for(std::chrono::seconds(0)) != std::future_status::timeout;
  return ranks_.sum({done ? 0 : 1}, "whether shards are written")[0] == 0 ? complete()
                                                                          : std::nullopt;
}

std::optional<fs::path> CheckpointSaver::finish() {
  return folder_.empty() ? std::nullopt : complete();
}

std::optional<fs::path> CheckpointSaver::complete() {
  const auto begin = std::chrono::steady_clock::now();
  const fs::path folder = std::exchange(folder_, {});
  FileRecord record;
  try {
    ranks_.all_or_none([&] { record = written_.get(); }, "the checkpoint's shards");
    const auto shards = ranks_.all_gather(to_text({record, pieces_}), "the shards' contents");
    ranks_.first_alone(
        [&] {
          const fs::path temporary = folder.string() + ".tmp";
          std::vector<std::vector<TensorPiece>> pieces;
          std::vector<FileRecord> records;
          for (const auto& described : shards) {
            auto shard = shard_description_of(described);
            records.push_back(std::move(shard.file));
            pieces.push_back(pieces.empty() ? pieces_ : std::move(shard.pieces));  // its own first
          }
          complete_checkpoint(temporary, pieces, state_, files_, records);
          put_in_place(temporary, folder);
          note_latest(folder);
        },
        "the checkpoint's index");
  } catch (const ErrorOfAnotherRank&) {
    throw;  // that rank says which file
  } catch (const std::exception& error) {
    fail("cannot save the checkpoint ",
         folder.string(),
         ": ",
         error.what(),
         ". Earlier checkpoints in ",
         folder.parent_path().string(),
         " are untouched.");
  }
  waited_seconds_ += seconds_since(begin);
  return folder;
}

}  // namespace braid
