#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <c10/core/ScalarType.h>

#include "core/file.h"

namespace braid {

/// What a safetensors header says of one tensor, checked against the file.
struct SafetensorsEntry {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  std::size_t begin, end;  // bytes from the start of the file
  /// The spelling of a dtype that Braid has no tensors of, and then `dtype` means nothing; else
  /// empty.
  std::string foreign_dtype = {};
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
};

/// Reads and checks a header: its length, keys, dtypes, shapes, and that the tensors' bytes follow
/// each other without gap or overlap up to the end of the file. Throws Error naming file, tensor
/// and offset.
SafetensorsHeader read_safetensors_header(const MappedFile& file);

}  // namespace braid
