#pragma once
#include <string_view>

namespace braid {

/// Whether `name` matches: "*" stands for any characters, "?" for one.
bool matches_glob(std::string_view pattern, std::string_view name);

}  // namespace braid
