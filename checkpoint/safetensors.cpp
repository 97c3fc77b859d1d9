#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include <ATen/ATen.h>

#include "checkpoint/dtype.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/safetensors_plan.h"
#include "checkpoint/strict_json.h"
#include "core/config_value.h"
#include "core/error.h"

namespace braid {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// At most five, and how many more there are.
std::string some_of(const std::vector<std::string>& parts, const char* separator) {
  constexpr std::size_t kShown = 5;
  std::string result;
  for (std::size_t i = 0; i < std::min(kShown, parts.size()); ++i) {
    result += (i > 0 ? separator : "") + parts[i];
  }
  return parts.size() > kShown ? text(result, " and ", parts.size() - kShown, " more") : result;
}

bool has_shards(const fs::path& folder) {
  return std::ranges::any_of(fs::directory_iterator(folder), [](const auto& entry) {
    return entry.path().extension() == ".safetensors";
  });
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path) : path_(path) {
  if (fs::is_directory(path)) {
    const auto file = path / "model.safetensors", index = path / "model.safetensors.index.json";
    if (fs::exists(file)) {
      open_file(file);
    } else {
      require(fs::exists(index),
              path.string(),
              " holds neither model.safetensors nor model.safetensors.index.json",
              has_shards(path) ? ", which names the shards that are there; download the index too"
                               : "");
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
  for (auto& [name, dtype, shape, begin, end, foreign] : header.entries) {
    names_.push_back(name);
    require(
        entries_.emplace(name, Entry{file, dtype, std::move(shape), begin, end, foreign}).second,
        path.string(),
        ": tensor '",
        name,
        "' is also in another shard");
  }
  metadata_.merge(header.metadata);
}

// All that is wrong with the shards at once: an interrupted download lacks more than one.
void SafetensorsFile::open_shards(const fs::path& index, const std::set<std::string>& shards) {
  std::vector<std::string> missing, pointers, problems;
  for (const auto& shard : shards) {
    const auto path = index.parent_path() / shard;
    if (!fs::exists(path)) {
      missing.push_back(shard);
      continue;
    }
    try {
      open_file(path);
    } catch (const LfsPointerError& error) {
      pointers.push_back(shard);
      problems.emplace_back(error.what());
    } catch (const Error& error) {
      problems.emplace_back(error.what());
    }
  }
  require(missing.empty(),
          index.string(),
          ": ",
          missing.size(),
          " of the ",
          shards.size(),
          " shards that it names ",
          missing.size() == 1 ? "is" : "are",
          " missing: ",
          joined(missing),
          problems.empty() ? "" : text("; ", problems.size(), " more cannot be read"),
          "; the download is not complete, fetch them again");
  require(problems.size() != 1, problems.empty() ? "" : problems.front());
  require(problems.size() != pointers.size() || pointers.empty(),
          index.string(),
          ": ",
          pointers.size(),
          " of the ",
          shards.size(),
          " shards that it names cannot be read: each is a Git LFS pointer, not the file itself; "
          "fetch them with `git lfs pull` in their repository: ",
          joined(pointers));
  require(problems.empty(),
          index.string(),
          ": ",
          problems.size(),
          " of the ",
          shards.size(),
          " shards that it names cannot be read: ",
          some_of(problems, "; "));
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
  open_shards(path, shards);
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

const SafetensorsFile::Entry& SafetensorsFile::readable(const std::string& name) const {
  const Entry& e = entry(name);
  require(e.foreign_dtype.empty(),
          e.file->path().string(),
          ": tensor '",
          name,
          "' is ",
          e.foreign_dtype,
          ", which Braid does not read; store it as one of ",
          known_dtype_names());
  return e;
}

std::string SafetensorsFile::dtype_text(const std::string& name) const {
  const Entry& e = entry(name);
  return e.foreign_dtype.empty() ? dtype_name(e.dtype) : e.foreign_dtype;
}

at::Tensor SafetensorsFile::view(const std::string& name) const {
  const Entry& e = readable(name);
  const std::byte* data = e.file->data() + e.begin;
  if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(e.dtype) != 0) {
    return tensor(name);
  }
  return at::from_blob(
      const_cast<std::byte*>(data), e.shape, [file = e.file](void*) {}, at::dtype(e.dtype));
}

at::Tensor SafetensorsFile::tensor(const std::string& name) const {
  const Entry& e = readable(name);
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
    if (!is_foreign(name)) {
      result.push_back({name, view(name)});
    }
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
