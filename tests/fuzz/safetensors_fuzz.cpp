#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string>

#include "checkpoint/dtype.h"
#include "checkpoint/safetensors_header.h"
#include "core/error.h"
#include "tests/fuzz/scratch_folder.h"
#include "tests/fuzz/targets.h"

namespace braid::testing {
namespace {

/// A first byte of 'f' leaves the bytes behind it as they are. Anything else is followed by a
/// header, which gets its right length in front and 8 bytes of data for each unit of that first
/// byte behind, so that the checks of places and sizes are reached.
std::string file_of(std::string_view bytes) {
  if (bytes.empty() || bytes[0] == 'f') {
    return std::string(bytes.substr(bytes.empty() ? 0 : 1));
  }
  const std::size_t data = 8 * static_cast<unsigned char>(bytes[0]);
  const auto header = bytes.substr(1);
  const uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file.append(header).append(data, '\1');
}

uint64_t elements(const std::vector<int64_t>& shape) {
  uint64_t count = 1;
  for (const int64_t size : shape) {
    count *= static_cast<uint64_t>(size);
  }
  return count;
}

void require_sound(const SafetensorsHeader& header, const MappedFile& file) {
  std::set<std::string> names;
  std::size_t position = header.entries.empty() ? file.size() : header.entries.front().begin;
  for (const auto& [name, dtype, shape, begin, end, foreign] : header.entries) {
    const uint64_t bits = bits_of_foreign_dtype(foreign).value_or(8 * c10::elementSize(dtype));
    const bool sound = names.insert(name).second && begin == position && end <= file.size() &&
                       (elements(shape) * bits + 7) / 8 == end - begin;
    if (!sound) {
      throw std::logic_error("an accepted tensor does not lie where it says");
    }
    position = end;
  }
  if (position != file.size()) {
    throw std::logic_error("an accepted file has bytes of no tensor");
  }
}

}  // namespace

bool read_safetensors(std::string_view bytes) {
  static const ScratchFolder folder;
  const MappedFile file(folder.write("input.safetensors", file_of(bytes)));
  try {
    require_sound(read_safetensors_header(file), file);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace braid::testing
