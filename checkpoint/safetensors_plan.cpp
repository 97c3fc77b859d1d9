#include "checkpoint/safetensors_plan.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include <nlohmann/json.hpp>

#include "checkpoint/dtype.h"
#include "core/error.h"

namespace braid {

ShardPlan plan_file(const std::string& file,
                    std::vector<StoredTensor> tensors,
                    const std::map<std::string, std::string>& metadata) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return c10::elementSize(a.dtype) > c10::elementSize(b.dtype);
  });
  ShardPlan plan{.file = file, .entries = {}, .header = {}};
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) {
    header["__metadata__"] = metadata;
  }
  std::size_t position = 0;
  for (const auto& tensor : tensors) {
    const std::size_t end = position + bytes_of(tensor);
    require(!header.contains(tensor.name) && tensor.name != "__metadata__",
            "cannot write ",
            file,
            ": tensor name '",
            tensor.name,
            "' is taken or reserved");
    header[tensor.name] = {{"dtype", dtype_name(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {position, end}}};
    plan.entries.push_back({tensor.name, tensor.dtype, tensor.shape, position, end});
    position = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  plan.header.assign(reinterpret_cast<const char*>(&length), sizeof length);
  plan.header += text;
  for (auto& entry : plan.entries) {
    entry.begin += plan.header.size();
    entry.end += plan.header.size();
  }
  plan.bytes = plan.header.size() + position;
  return plan;
}

std::vector<ShardPlan> plan_shards(const std::vector<StoredTensor>& tensors,
                                   std::size_t shard_bytes,
                                   const std::map<std::string, std::string>& metadata) {
  std::vector<std::vector<StoredTensor>> groups(1);
  std::set<std::string> names;
  std::size_t filled = 0;
  for (const auto& tensor : tensors) {
    require(names.insert(tensor.name).second, "tensor name '", tensor.name, "' occurs twice");
    const std::size_t bytes = bytes_of(tensor);
    if (filled > 0 && filled + bytes > shard_bytes) {
      groups.emplace_back();
      filled = 0;
    }
    groups.back().push_back(tensor);
    filled += bytes;
  }
  std::vector<ShardPlan> shards;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    char file[64];
    std::snprintf(file, sizeof file, "model-%05zu-of-%05zu.safetensors", i + 1, groups.size());
    shards.push_back(
        plan_file(groups.size() == 1 ? "model.safetensors" : file, std::move(groups[i]), metadata));
  }
  return shards;
}

std::string index_json(const std::vector<ShardPlan>& shards) {
  nlohmann::ordered_json weight_map = nlohmann::ordered_json::object();
  std::size_t total = 0;
  for (const auto& shard : shards) {
    for (const auto& entry : shard.entries) {
      weight_map[entry.name] = shard.file;
      total += entry.end - entry.begin;
    }
  }
  const nlohmann::ordered_json index = {{"metadata", {{"total_size", total}}},
                                        {"weight_map", std::move(weight_map)}};
  return index.dump(2) + "\n";
}

}  // namespace braid
