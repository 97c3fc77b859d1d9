#include "train/checkpoint_saver.h"

#include <chrono>
#include <sstream>
#include <utility>

#include <ATen/ATen.h>

#include "checkpoint/dtype.h"
#include "checkpoint/history.h"
#include "core/error.h"
#include "core/file.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

// What a rank's shard holds, for the index that rank 0 writes: one line a piece.
std::string described(const std::vector<TensorPiece>& pieces) {
  std::ostringstream lines;
  for (const auto& piece : pieces) {
    lines << piece.name << ' ' << static_cast<int>(piece.value.scalar_type()) << ' ' << piece.offset
          << ' ' << piece.shape.size();
    for (const int64_t size : piece.shape) {
      lines << ' ' << size;
    }
    lines << ' ' << (piece.value.dim() > 0 ? piece.value.size(0) : 0) << '\n';
  }
  return lines.str();
}

std::vector<TensorPiece> pieces_in(const std::string& description) {
  std::istringstream lines(description);
  std::vector<TensorPiece> pieces;
  TensorPiece piece;
  int type = 0;
  std::size_t dimensions = 0;
  while (lines >> piece.name >> type >> piece.offset >> dimensions) {
    piece.shape.resize(dimensions);
    for (int64_t& size : piece.shape) {
      lines >> size;
    }
    auto sizes = piece.shape;
    int64_t rows = 0;
    lines >> rows;
    if (!sizes.empty()) {
      sizes[0] = rows;
    }
    piece.value = at::empty(sizes, at::device(at::kMeta).dtype(static_cast<at::ScalarType>(type)));
    pieces.push_back(piece);
  }
  return pieces;
}

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
      buffer = at::empty(value.sizes(), value.options().device(at::kCPU).requires_grad(false));
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
  held_up_seconds_ = seconds_since(begin);
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
    const auto descriptions = ranks_.all_gather(described(pieces_), "the shards' contents");
    const auto records = ranks_.all_gather(text(record.name, ' ', record.size, ' ', record.digest),
                                           "the shards' digests");
    ranks_.first_alone(
        [&] {
          const fs::path temporary = folder.string() + ".tmp";
          std::vector<std::vector<TensorPiece>> shards;
          std::vector<FileRecord> known;
          for (std::size_t r = 0; r < descriptions.size(); ++r) {
            shards.push_back(r == 0 ? pieces_ : pieces_in(descriptions[r]));
            std::istringstream line(records[r]);
            auto& added = known.emplace_back();
            line >> added.name >> added.size >> added.digest;
          }
          complete_checkpoint(temporary, shards, state_, files_, known);
          put_in_place(temporary, folder);
          write_file_atomically(folder.parent_path() / "latest", folder.filename().string() + "\n");
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
  held_up_seconds_ += seconds_since(begin);
  return folder;
}

}  // namespace braid
