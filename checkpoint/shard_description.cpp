#include "checkpoint/shard_description.h"

#include <bit>
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
    // A scalar's value itself, since indexes hold it: virtual datasets have a first dimension.
    if (piece.value.dim() > 0) {
      lines << ' ' << piece.value.size(0) << '\n';
    } else {
      lines << ' ' << std::bit_cast<uint64_t>(piece.value.item<double>()) << '\n';
    }
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
    const auto dtype = static_cast<at::ScalarType>(type);
    uint64_t rows_or_bits = 0;
    lines >> rows_or_bits;
    if (auto sizes = piece.shape; sizes.empty()) {
      piece.value = at::scalar_tensor(std::bit_cast<double>(rows_or_bits), dtype);
    } else {
      sizes[0] = static_cast<int64_t>(rows_or_bits);
      piece.value = at::empty(sizes, at::device(at::kMeta).dtype(dtype));
    }
    shard.pieces.push_back(piece);
  }
  return shard;
}

}  // namespace braid
