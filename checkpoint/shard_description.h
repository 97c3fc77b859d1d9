#pragma once
// What ranks tell each other about the shards they have written, so that one of them can write the
// index and COMPLETE: a text, one line for the file and one for each piece.
#include <string>
#include <vector>

#include "checkpoint/hdf5.h"
#include "checkpoint/manifest.h"

namespace braid {

struct ShardDescription {
  FileRecord file;
  /// Once read back from text, their values are on the meta device; those of scalars are there.
  std::vector<TensorPiece> pieces;
};

std::string to_text(const ShardDescription& shard);
/// The inverse of to_text().
ShardDescription shard_description_of(const std::string& text);

}  // namespace braid
