#pragma once
// Where every tensor of a model goes before any byte is written: shards of bounded size.
#include <map>
#include <string>
#include <vector>

#include "checkpoint/release_layout.h"
#include "checkpoint/safetensors_header.h"

namespace braid {

struct ShardPlan {
  std::string file;                       ///< "model-00001-of-00046.safetensors"
  std::vector<SafetensorsEntry> entries;  ///< in the order of their bytes, places in the file
  std::string header;                     ///< the first bytes of the file, its length included
  std::size_t bytes = 0;                  ///< of the whole file
};

/// Fills shards with tensors in the given order, none longer than `shard_bytes` of tensors unless
/// one tensor alone is; within a shard wider elements come first, so that all are aligned. One
/// shard is called model.safetensors. Throws Error on a name that is taken or reserved, or a dtype
/// that the format lacks.
std::vector<ShardPlan> plan_shards(const std::vector<StoredTensor>& tensors,
                                   std::size_t shard_bytes,
                                   const std::map<std::string, std::string>& metadata = {
                                       {"format", "pt"}});

/// One file of that name.
ShardPlan plan_file(const std::string& file,
                    std::vector<StoredTensor> tensors,
                    const std::map<std::string, std::string>& metadata);

/// The text of model.safetensors.index.json.
std::string index_json(const std::vector<ShardPlan>& shards);

}  // namespace braid
