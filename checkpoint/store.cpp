#include "checkpoint/store.h"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <memory>
#include <utility>

#include <ATen/ATen.h>

#include "checkpoint/history.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/file.h"
#include "core/temporary_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

constexpr const char* kState = "state";

fs::path made_empty(fs::path folder) {
  fs::remove_all(folder);
  fs::create_directory(folder);
  return folder;
}

void require_file_name(const std::string& name) {
  require(!name.empty() && name[0] != '.' && name.find_first_of("/ \t\n") == std::string::npos &&
              !name.ends_with(".h5") && name != kManifestFile,
          "'",
          name,
          "' cannot be the name of a file in a checkpoint");
}

std::vector<TensorPiece> views_of_shard(const fs::path& path) {
  const auto shard = Hdf5File::open(path);
  const auto mapped = std::make_shared<const MappedFile>(path);
  std::vector<TensorPiece> pieces;
  for (const auto& name : shard.tensor_names()) {
    pieces.push_back(shard.describe_piece(name));
    pieces.back().value = shard.view_tensor(name, mapped);
  }
  return pieces;
}

// The pieces follow one another, without a gap.
void require_whole(const std::vector<TensorPiece>& pieces, const fs::path& path) {
  int64_t next = 0;
  for (const auto& piece : pieces) {
    require(piece.offset == next && piece.shape == pieces.front().shape,
            path.string(),
            ": of '",
            piece.name,
            "' the rows from ",
            next,
            " on are missing or there twice");
    next += piece.value.size(0);
  }
  require(next == pieces.front().shape[0],
          path.string(),
          ": of '",
          pieces.front().name,
          "' the rows from ",
          next,
          " on are missing");
}

}  // namespace

std::string shard_name(std::size_t shard, std::size_t shards) {
  char name[64];
  std::snprintf(name, sizeof name, "shard-%05zu-of-%05zu.h5", shard, shards);
  return name;
}

FileRecord write_shard(const fs::path& file,
                       const std::vector<TensorPiece>& tensors,
                       const std::function<void(const TensorPiece&)>& after_each,
                       int deflate_level) {
  const fs::path temporary = file.string() + ".tmp";
  auto shard = Hdf5File::create(temporary);
  for (const auto& tensor : tensors) {
    shard.write_piece(tensor, deflate_level);
    if (after_each) {
      after_each(tensor);
    }
  }
  shard.close();
  // The digest is computed while the disk is still writing.
  const FileRecord record{
      file.filename().string(), fs::file_size(temporary), xxh3_128_of_file(temporary)};
  fsync_path(temporary);
  fs::rename(temporary, file);
  return record;
}

void complete_checkpoint(const fs::path& folder,
                         const std::vector<std::vector<TensorPiece>>& shards,
                         const Hdf5Attributes& state,
                         const std::map<std::string, std::string>& files,
                         const std::vector<FileRecord>& known) {
  std::vector<std::string> names;
  std::map<std::string, std::vector<Hdf5File::VirtualPart>> parts;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    names.push_back(shard_name(i, shards.size()));
    for (const auto& piece : shards[i]) {
      parts[piece.name].push_back({piece, names.back()});
    }
  }
  auto index = Hdf5File::create(folder / kIndexFile);
  for (const auto& [name, its_parts] : parts) {
    index.write_virtual(its_parts);
  }
  index.write_attributes(kState, state);
  index.close();
  fsync_path(folder / kIndexFile);
  names.push_back(kIndexFile);
  for (const auto& [name, contents] : files) {
    require_file_name(name);
    write_file_atomically(folder / name, contents);
    names.push_back(name);
  }
  std::vector<FileRecord> records;
  for (const auto& name : names) {
    const auto record = std::ranges::find(known, name, &FileRecord::name);
    records.push_back(record != known.end() ? *record : record_of(folder, name));
  }
  write_manifest(folder, records);
}

std::vector<TensorPiece> whole(const std::vector<NamedTensor>& tensors) {
  std::vector<TensorPiece> pieces;
  for (const auto& tensor : tensors) {
    pieces.push_back(whole(tensor));
  }
  return pieces;
}

void save_checkpoint(const fs::path& path,
                     const Checkpoint& checkpoint,
                     const std::map<std::string, std::string>& files) {
  require(path.has_filename(), "'", path.string(), "' does not end in the name of a checkpoint");
  const fs::path root = path.has_parent_path() ? path.parent_path() : fs::path(".");
  try {
    fs::create_directories(root);
    remove_leftovers(root);
    const TemporaryFolder folder(made_empty(path.string() + ".tmp"));
    const auto pieces = whole(checkpoint.tensors);
    const auto record = write_shard(folder.path() / shard_name(0, 1), pieces);
    complete_checkpoint(folder.path(), {pieces}, checkpoint.state, files, {record});
    put_in_place(folder.path(), path);
    note_latest(path);
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
  const auto records = check_manifest(
      path, options.verify ? Check::kDigests : Check::kSizes, options.part, options.parts);
  Checkpoint checkpoint;
  std::map<std::string, std::vector<TensorPiece>> parts;
  for (const auto& record : records) {
    if (record.name.starts_with("shard-")) {
      for (auto& piece : views_of_shard(path / record.name)) {
        if (piece.is_whole()) {
          checkpoint.tensors.push_back({piece.name, piece.value});
        } else {
          parts[piece.name].push_back(std::move(piece));
        }
      }
    }
  }
  for (auto& [name, pieces] : parts) {
    std::ranges::sort(pieces, {}, &TensorPiece::offset);
    require_whole(pieces, path);
    if (options.assemble) {
      std::vector<at::Tensor> values;
      for (const auto& piece : pieces) {
        values.push_back(piece.value);
      }
      checkpoint.tensors.push_back({name, at::cat(values)});
    } else {
      std::ranges::move(pieces, std::back_inserter(checkpoint.pieces));
    }
  }
  std::ranges::sort(checkpoint.tensors, {}, &NamedTensor::name);
  checkpoint.state = checkpoint_state(path);
  return checkpoint;
}

bool read_piece(const Checkpoint& checkpoint, const TensorPiece& piece) {
  const auto found =
      std::ranges::lower_bound(checkpoint.tensors, piece.name, {}, &NamedTensor::name);
  if (found != checkpoint.tensors.end() && found->name == piece.name) {
    if (found->value.sizes() != at::IntArrayRef(piece.shape)) {
      return false;
    }
    piece.value.copy_(piece.value.dim() == 0
                          ? found->value
                          : found->value.narrow(0, piece.offset, piece.value.size(0)));
    return true;
  }
  const auto first =
      std::ranges::lower_bound(checkpoint.pieces, piece.name, {}, &TensorPiece::name);
  const auto last = std::ranges::upper_bound(checkpoint.pieces, piece.name, {}, &TensorPiece::name);
  if (first == last || first->shape != piece.shape) {
    return false;
  }
  for (auto stored = first; stored != last; ++stored) {
    const int64_t begin = std::max(stored->offset, piece.offset),
                  end = std::min(stored->offset + stored->value.size(0),
                                 piece.offset + piece.value.size(0));
    if (begin < end) {
      piece.value.narrow(0, begin - piece.offset, end - begin)
          .copy_(stored->value.narrow(0, begin - stored->offset, end - begin));
    }
  }
  return true;
}

Hdf5Attributes checkpoint_state(const fs::path& path) {
  return Hdf5File::open(path / kIndexFile).read_attributes(kState);
}

}  // namespace braid
