#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

/// Takes the string under `key` out of the JSON object that `line` is, without building a tree of
/// the rest. That string must be exact: UTF-8, whole surrogate pairs, no bare control characters.
/// Of everything else only what is needed to find its end is looked at, so other keys may hold NaN,
/// 1e400, half a surrogate pair or bytes that are no text.
///
/// Returns nothing on success, and else what is wrong with the line, to be put behind "this line":
/// "has no key 'text'", "is not valid JSON at byte 17 of the line (...)". Bytes count from 1.
std::string take_json_text(std::string_view line, const std::string& key, std::string& text);

/// The same for values of any kind under several keys: `values` are stretches of `line`, one for
/// each key, nullopt where the object has none. They are whole, but not looked at any further.
std::string take_json_values(std::string_view line,
                             const std::vector<std::string>& keys,
                             std::vector<std::optional<std::string_view>>& values);

/// The keys of the object that `line` is, those that are strings in UTF-8; nothing of anything
/// else.
std::vector<std::string> json_keys(std::string_view line);

}  // namespace braid
