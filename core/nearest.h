#pragma once
// What was probably meant by a name that does not exist.
#include <cstddef>
#include <string>
#include <vector>

namespace braid {

/// The least number of characters to add, leave out or replace that makes `b` of `a` (Levenshtein).
std::size_t edit_distance(const std::string& a, const std::string& b);

/// The name nearest to `word`; "" where more than half of it would have to change.
std::string nearest_name(const std::string& word, const std::vector<std::string>& names);

}  // namespace braid
