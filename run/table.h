#pragma once
#include <string>

#include <nlohmann/json.hpp>

namespace braid {

/// What a command found, for people; --json prints the same object as it is. One line a value,
/// lists of objects as tables. Values of keys that end in "bytes" are shown in KiB, MiB, ..., of
/// keys that end in "flops" in thousands of thousands (K, M, G, ...).
std::string readable(const nlohmann::ordered_json& object);

}  // namespace braid
