#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/mtp_adapter.h"
#include "checkpoint/peft.h"
#include "core/error.h"
#include "core/parameter_names.h"
#include "tests/fuzz/scratch_folder.h"
#include "tests/fuzz/targets.h"

namespace braid::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kSoundConfig =
    R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_a_proj"]})";

std::string config_of(std::string_view part) {
  if (!part.starts_with('+')) {
    return std::string(part);
  }
  const auto patch = json::parse(part.substr(1), nullptr, /*allow_exceptions=*/false);
  auto config = json::parse(kSoundConfig);
  if (!patch.is_discarded()) {
    config.merge_patch(patch);
  }
  return config.dump(-1, ' ', false, json::error_handler_t::replace);
}

// As many bytes as the header asks for, so that the checks of what the tensors say are reached.
std::size_t data_bytes(std::string_view header) {
  constexpr uint64_t kMost = 1 << 16;
  uint64_t bytes = 0;
  const auto tensors = json::parse(header, nullptr, /*allow_exceptions=*/false);
  for (const auto& tensor : tensors.is_object() ? tensors : json::object()) {
    if (tensor.is_object() && tensor.contains("data_offsets") &&
        tensor["data_offsets"].is_array() && tensor["data_offsets"].size() == 2 &&
        tensor["data_offsets"][1].is_number_unsigned()) {
      bytes = std::max(bytes, tensor["data_offsets"][1].get<uint64_t>());
    }
  }
  return static_cast<std::size_t>(std::min(bytes, kMost));
}

std::string safetensors_of(std::string_view header) {
  constexpr char kByte = 0x3c;  // a small number in every floating type
  const uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file.append(header).append(data_bytes(header), kByte);
}

void require_sound(const PeftAdapter& adapter) {
  std::set<std::string> matrices;
  for (const auto& update : adapter.updates) {
    const auto& [matrix, a_rI, b_Or, alpha, scale, magnitude_O] = update;
    const bool sound = kind_of(matrix) != nullptr && matrices.insert(matrix).second &&
                       a_rI.dim() == 2 && b_Or.dim() == 2 && a_rI.size(0) == b_Or.size(1) &&
                       a_rI.numel() > 0 && b_Or.numel() > 0 && alpha > 0 && std::isfinite(scale) &&
                       magnitude_O.defined() == adapter.is_dora() &&
                       (!magnitude_O.defined() || magnitude_O.size(0) == b_Or.size(0));
    if (!sound) {
      throw std::logic_error("an accepted adapter is none: " + matrix);
    }
  }
}

// What is accepted is written, or refused with a reason, and is then read again.
void require_written_as_read(const PeftAdapter& read, const fs::path& folder) {
  fs::create_directories(folder);
  auto adapter = read;
  adapter.updates = with_shared_inputs(std::move(adapter.updates), adapter.rslora);
  try {
    write_peft(folder, adapter);
  } catch (const Error&) {
    return;
  }
  if (read_peft(folder).updates.size() != adapter.updates.size()) {
    throw std::logic_error("an adapter that was written is not read again");
  }
}

}  // namespace

bool read_adapter(std::string_view bytes) {
  static const ScratchFolder folder;
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= bytes.size() && parts.size() < 3;) {
    const auto end =
        parts.size() == 2 ? bytes.size() : std::min(bytes.find('\0', begin), bytes.size());
    parts.push_back(bytes.substr(begin, end - begin));
    begin = end + 1;
  }
  const auto place = folder.write(kPeftConfig, config_of(parts[0])).parent_path();
  for (const auto& [name, part] : {std::pair(kPeftWeights, 1u), std::pair(kMtpAdapter, 2u)}) {
    fs::remove(place / name);
    if (parts.size() > part) {
      folder.write(name, safetensors_of(parts[part]));
    }
  }
  try {
    const auto adapter = read_peft(place);
    require_sound(adapter);
    require_written_as_read(adapter, place / "again");
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace braid::testing
