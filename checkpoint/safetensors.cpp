#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include <ATen/ATen.h>

#include "checkpoint/safetensors_header.h"
#include "checkpoint/safetensors_plan.h"
#include "checkpoint/strict_json.h"
#include "core/error.h"

namespace braid {

namespace fs = std::filesystem;
using nlohmann::json;

SafetensorsFile::SafetensorsFile(const fs::path& path) : path_(path) {
  if (fs::is_directory(path)) {
    const auto file = path / "model.safetensors", index = path / "model.safetensors.index.json";
    if (fs::exists(file)) {
      open_file(file);
    } else {
      require(fs::exists(index),
              path.string(),
              " holds neither model.safetensors nor model.safetensors.index.json");
      open_index(index);
    }
  } else if (path.extension() == ".json") {
    open_index(path);
  } else {
    open_file(path);
  }
}

void SafetensorsFile::open_file(const fs::path& path) {
  const auto file = std::make_shared<const MappedFile>(path);
  SafetensorsHeader header = read_safetensors_header(*file);
  for (auto& [name, dtype, shape, begin, end] : header.entries) {
    names_.push_back(name);
    require(entries_.emplace(name, Entry{file, dtype, std::move(shape), begin, end}).second,
            path.string(),
            ": tensor '",
            name,
            "' is also in another shard");
  }
  metadata_.merge(header.metadata);
}

void SafetensorsFile::open_index(const fs::path& path) {
  const std::string contents = read_file(path);
  const json index = parse_strict_json(contents, path.string());
  const json& weight_map = json_field(index, "weight_map", path.string());
  require(weight_map.is_object(), path.string(), ": weight_map is not an object");
  std::set<std::string> shards;
  for (const auto& [name, shard] : weight_map.items()) {
    require(shard.is_string() &&
                fs::path(shard.get<std::string>()).filename() == shard.get<std::string>(),
            path.string(),
            ": weight_map '",
            name,
            "' is ",
            shard.dump(),
            ", expected the name of a file beside it");
    shards.insert(shard.get<std::string>());
  }
  for (const auto& shard : shards) {
    open_file(path.parent_path() / shard);
  }
  for (const auto& [name, shard] : weight_map.items()) {
    const auto found = entries_.find(name);
    require(found != entries_.end() &&
                found->second.file->path().filename() == shard.get<std::string>(),
            path.string(),
            ": tensor '",
            name,
            "' is not in ",
            shard.get<std::string>());
  }
  for (const auto& name : names_) {
    require(weight_map.contains(name),
            entry(name).file->path().string(),
            ": tensor '",
            name,
            "' is not listed in ",
            path.filename().string());
  }
}

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = entries_.find(name);
  require(found != entries_.end(), path_.string(), " has no tensor '", name, "'");
  return found->second;
}

at::Tensor SafetensorsFile::view(const std::string& name) const {
  const Entry& e = entry(name);
  const std::byte* data = e.file->data() + e.begin;
  if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(e.dtype) != 0) {
    return tensor(name);
  }
  return at::from_blob(
      const_cast<std::byte*>(data), e.shape, [file = e.file](void*) {}, at::dtype(e.dtype));
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const Entry& e = entry(name);
  auto result = at::empty(e.shape, e.dtype);
  if (e.end > e.begin) {
    std::memcpy(result.mutable_data_ptr(), e.file->data() + e.begin, e.end - e.begin);
  }
  return result;
}

std::vector<NamedTensor> SafetensorsFile::views() const {
  std::vector<NamedTensor> result;
  result.reserve(names_.size());
  for (const auto& name : names_) {
    result.push_back({name, view(name)});
  }
  return result;
}

void write_safetensors(const fs::path& path,
                       const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::map<std::string, at::Tensor> values;
  std::vector<StoredTensor> stored;
  for (const auto& [name, value] : tensors) {
    values[name] = value;
    stored.push_back({name, value.scalar_type(), value.sizes().vec()});
  }
  const auto plan = plan_file(path.string(), std::move(stored), metadata);
  AtomicFile file(path);
  file.write(plan.header);
  for (const auto& entry : plan.entries) {
    const auto contiguous = values.at(entry.name).detach().cpu().contiguous();
    file.write(contiguous.const_data_ptr(), contiguous.nbytes());
  }
  file.commit();
}

}  // namespace braid
