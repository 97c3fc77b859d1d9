#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include <ATen/ATen.h>

#include "checkpoint/dtype.h"
#include "checkpoint/safetensors_header.h"
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
  std::vector<const NamedTensor*> order;
  for (const auto& tensor : tensors) {
    order.push_back(&tensor);
  }
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return a->value.element_size() > b->value.element_size();
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) {
    header["__metadata__"] = metadata;
  }
  std::set<std::string> names = {"__metadata__"};
  std::size_t position = 0;
  for (const NamedTensor* tensor : order) {
    require(names.insert(tensor->name).second,
            "cannot write ",
            path.string(),
            ": tensor name '",
            tensor->name,
            "' is taken or reserved");
    const std::size_t end = position + tensor->value.nbytes();
    header[tensor->name] = {{"dtype", dtype_name(tensor->value.scalar_type())},
                            {"shape", tensor->value.sizes().vec()},
                            {"data_offsets", {position, end}}};
    position = end;
  }
  std::string bytes = header.dump();
  bytes.append((8 - bytes.size() % 8) % 8, ' ');
  const uint64_t length = bytes.size();
  AtomicFile file(path);
  file.write(&length, sizeof(length));
  file.write(bytes);
  for (const NamedTensor* tensor : order) {
    const auto contiguous = tensor->value.detach().cpu().contiguous();
    file.write(contiguous.const_data_ptr(), contiguous.nbytes());
  }
  file.commit();
}

}  // namespace braid
