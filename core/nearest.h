#pragma once
// What was probably meant by a name that does not exist.
#include <cstddef>
#include <string>

namespace braid {

/// The least number of characters to add, leave out or replace that makes `b` of `a` (Levenshtein).
std::size_t edit_distance(const std::string& a, const std::string& b);

}  // namespace braid
