#include "checkpoint/shard_description.h"

#include <sstream>

#include <ATen/ATen.h>

namespace braid {

std::string to_text(const ShardDescription& shard) {
  std::ostringstream lines;
  lines << shard.file.name << ' ' << shard.file.size << ' ' << shard.file.digest << '\n';
  for (const auto& piece : shard.pieces) {
    lines << piece.name << ' ' << static_cast<int>(piece.value.scalar_type()) << ' ' << piece.offset
          << ' ' << piece.shape.size();
    for (const int64_t size : piece.shape) {
      lines << ' ' << size;
    }
    lines << ' ' << (piece.value.dim() > 0 ? piece.value.size(0) : 0) << '\n';
  }
  return lines.str();
}

ShardDescription shard_description_of(const std::string& text) {
  std::istringstream lines(text);
  ShardDescription shard;
  lines >> shard.file.name >> shard.file.size >> shard.file.digest;
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
    shard.pieces.push_back(piece);
  }
  return shard;
}

}  // namespace braid
