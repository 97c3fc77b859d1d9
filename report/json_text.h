#pragma once
// Numbers and texts as JSON that may stand in a page's <script>.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace braid {

/// In quotes; as ASCII without &, < and >, so that it ends no element and needs no escape in XML.
std::string json_string(std::string_view text);

/// With at most `digits` significant digits; null for what is not finite.
std::string json_number(double value, int digits = 6);
std::string json_numbers(const std::vector<double>& values, int digits = 6);

/// "true" or "false".
std::string json_bool(bool value);

/// "[a,b]", and "{"key":a}", of what is JSON already.
std::string json_list(const std::vector<std::string>& items);
std::string json_object(const std::vector<std::pair<std::string_view, std::string>>& members);

}  // namespace braid
