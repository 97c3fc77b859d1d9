#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include <c10/core/ScalarType.h>

#include "checkpoint/dtype.h"
#include "checkpoint/strict_json.h"
#include "core/error.h"

namespace braid {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit

std::map<std::string, std::string> metadata_of(const json& object, const std::string& where) {
  require(object.is_object(), where, ": __metadata__ is not an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : object.items()) {
    require(value.is_string(), where, ": __metadata__ '", key, "' is not a string");
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

struct RawHeader {
  json object;
  std::size_t data_begin;
};

RawHeader read_raw_header(const MappedFile& file) {
  const std::string where = file.path().string();
  require_no_lfs_pointer({reinterpret_cast<const char*>(file.data()), file.size()}, where);
  require(file.size() >= 8,
          where,
          " is truncated: ",
          file.size(),
          " bytes cannot hold a safetensors header");
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  require(length <= kMaxHeaderBytes,
          where,
          ": header length ",
          length,
          " is above the limit of ",
          kMaxHeaderBytes,
          " bytes; this is not a safetensors file");
  require(length <= file.size() - 8,
          where,
          " is truncated or not a safetensors file: its header would end at byte ",
          length + 8,
          ", the file has ",
          file.size());
  const char* begin = reinterpret_cast<const char*>(file.data()) + 8;
  require(length > 0 && *begin == '{',
          where,
          ": the header does not begin with '{'; this is not a safetensors file");
  return RawHeader{parse_strict_json({begin, static_cast<std::size_t>(length)}, where),
                   8 + static_cast<std::size_t>(length)};
}

uint64_t unsigned_integer(const json& value, const std::string& what) {
  require(
      value.is_number_unsigned(), what, " is ", value.dump(), ", expected a non-negative integer");
  return value.get<uint64_t>();
}

std::vector<int64_t> shape_of(const json& list, const std::string& where) {
  require(list.is_array() && list.size() <= 64, where, ": shape is not a list of at most 64 sizes");
  std::vector<int64_t> shape;
  for (const auto& size : list) {
    const uint64_t value = unsigned_integer(size, where + ": a size in shape");
    require(value <= INT64_MAX, where, ": size ", value, " in shape is too large");
    shape.push_back(static_cast<int64_t>(value));
  }
  return shape;
}

uint64_t bytes_of(const std::vector<int64_t>& shape,
                  uint64_t bits_of_element,
                  const std::string& where) {
  uint64_t bits = bits_of_element;
  for (const int64_t size : shape) {
    require(!__builtin_mul_overflow(bits, static_cast<uint64_t>(size), &bits),
            where,
            ": shape is too large for any file");
  }
  return bits / 8 + (bits % 8 != 0);
}

SafetensorsEntry checked_entry(const std::string& name,
                               const json& value,
                               const std::string& path,
                               std::size_t data_begin,
                               uint64_t data_size) {
  const std::string where = path + ", tensor '" + name + "'";
  const json& dtype_field = json_field(value, "dtype", where);
  const auto dtype_text = dtype_field.is_string() ? dtype_field.get<std::string>() : "";
  const auto dtype = dtype_from_name(dtype_text);
  const auto foreign = bits_of_foreign_dtype(dtype_text);
  require(dtype.has_value() || foreign.has_value(),
          where,
          ": dtype ",
          dtype_field.dump(),
          " is not one of ",
          known_dtype_names());
  const auto shape = shape_of(json_field(value, "shape", where), where);
  const json& offsets = json_field(value, "data_offsets", where);
  require(offsets.is_array() && offsets.size() == 2,
          where,
          ": data_offsets is not a list of two offsets");
  const uint64_t begin = unsigned_integer(offsets[0], where + ": data_offsets[0]");
  const uint64_t end = unsigned_integer(offsets[1], where + ": data_offsets[1]");
  require(begin <= end, where, ": data_offsets ", offsets.dump(), " end before they begin");
  require(end <= data_size,
          path,
          " is truncated: tensor '",
          name,
          "' ends at byte ",
          end,
          " of the data, the file holds ",
          data_size);
  const uint64_t expected = bytes_of(shape, dtype ? 8 * c10::elementSize(*dtype) : *foreign, where);
  require(end - begin == expected,
          where,
          ": data_offsets ",
          offsets.dump(),
          " span ",
          end - begin,
          " bytes, shape ",
          value.at("shape").dump(),
          " of ",
          dtype_text,
          " needs ",
          expected);
  return {name,
          dtype.value_or(at::kByte),
          shape,
          data_begin + begin,
          data_begin + end,
          dtype ? std::string() : dtype_text};
}

void require_gapless(const std::vector<SafetensorsEntry>& entries,
                     const std::string& path,
                     std::size_t data_begin,
                     std::size_t file_size) {
  std::size_t position = data_begin;
  for (const auto& entry : entries) {
    require(entry.begin == position,
            path,
            ", tensor '",
            entry.name,
            "': begins at byte ",
            entry.begin - data_begin,
            " of the data, but the tensor before it ends at ",
            position - data_begin,
            "; tensors must follow each other without gap or overlap");
    position = entry.end;
  }
  require(position == file_size,
          path,
          ": ",
          file_size - position,
          " bytes at the end belong to no tensor; the file is damaged");
}

}  // namespace

SafetensorsHeader read_safetensors_header(const MappedFile& file) {
  const std::string path = file.path().string();
  const auto [object, data_begin] = read_raw_header(file);
  SafetensorsHeader header;
  for (const auto& [name, value] : object.items()) {
    if (name == "__metadata__") {
      header.metadata = metadata_of(value, path);
    } else {
      header.entries.push_back(
          checked_entry(name, value, path, data_begin, file.size() - data_begin));
    }
  }
  std::sort(header.entries.begin(), header.entries.end(), [](const auto& a, const auto& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  require_gapless(header.entries, path, data_begin, file.size());
  return header;
}

}  // namespace braid
