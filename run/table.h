#pragma once
#include <string>

#include <nlohmann/json.hpp>

namespace braid {

/// A command's result as text for people; --json prints the same object as JSON. One line per
/// value, a table per list of objects. Values of keys that end in "bytes" are shown in KiB, MiB,
/// ..., those of keys that end in "flops" with K, M, G, ... (powers of 1000).
std::string readable(const nlohmann::ordered_json& object);

}  // namespace braid
