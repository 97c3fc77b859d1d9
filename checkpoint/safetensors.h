#pragma once
// The safetensors format: a little-endian u64 header length, a JSON header, then the tensors'
// bytes, contiguous, in header-given places. https://github.com/huggingface/safetensors
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/file.h"
#include "core/named_tensor.h"

namespace braid {

/// The tensors of one safetensors file, or of all shards of a model folder, mapped into memory.
/// Opening checks everything the headers say (lengths, offsets without gap or overlap, sizes,
/// dtypes, duplicate keys); the tensors' bytes are read when asked for.
class SafetensorsFile {
 public:
  /// `path`: a file; a "*.index.json" naming shards beside it; or a folder, where
  /// "model.safetensors" is taken, else "model.safetensors.index.json".
  /// Throws Error naming the file, the tensor and the offset when anything is missing or wrong;
  /// of an index all shards that are missing or unreadable at once.
  explicit SafetensorsFile(const std::filesystem::path& path);

  /// Tensor names, in the order of their bytes, shard by shard.
  const std::vector<std::string>& names() const { return names_; }
  bool contains(const std::string& name) const { return entries_.count(name) != 0; }

  /// Those below throw Error for a name that is not there.
  const std::vector<int64_t>& shape(const std::string& name) const { return entry(name).shape; }
  /// Bytes in the file.
  std::size_t bytes(const std::string& name) const { return entry(name).end - entry(name).begin; }
  /// As the file spells it.
  std::string dtype_text(const std::string& name) const;
  /// Whether safetensors has the tensor's dtype and Braid has not (U32, F8_E5M2, ...). dtype(),
  /// view() and tensor() then throw Error with its name and what it is.
  bool is_foreign(const std::string& name) const { return !entry(name).foreign_dtype.empty(); }

  at::ScalarType dtype(const std::string& name) const { return readable(name).dtype; }

  /// The tensor as a view of the mapped file, which it keeps open; it must not be written to.
  /// A tensor whose bytes are not aligned to its elements is copied instead.
  at::Tensor view(const std::string& name) const;

  /// The tensor in memory of its own.
  at::Tensor tensor(const std::string& name) const;

  /// All tensors as views, but for foreign ones.
  std::vector<NamedTensor> views() const;

  /// The free-form "__metadata__" of the file; where shards disagree, the first one's.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    std::shared_ptr<const MappedFile> file;
    at::ScalarType dtype;
    std::vector<int64_t> shape;
    std::size_t begin, end;  // bytes from the start of the file
    std::string foreign_dtype;
  };

  const Entry& entry(const std::string& name) const;
  const Entry& readable(const std::string& name) const;  // of a dtype that Braid has
  void open_file(const std::filesystem::path& path);
  void open_index(const std::filesystem::path& path);
  void open_shards(const std::filesystem::path& index, const std::set<std::string>& shards);

  std::filesystem::path path_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

/// Writes one safetensors file that appears whole or not at all. Tensors of any device and strides;
/// wider elements come first so that all are aligned. Throws Error on duplicate names or a dtype
/// that the format lacks. Some loaders require the default metadata.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace braid
