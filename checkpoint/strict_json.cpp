#include "checkpoint/strict_json.h"

#include <algorithm>
#include <set>
#include <vector>

#include "core/error.h"

namespace braid {

using nlohmann::json;

void require_no_lfs_pointer(std::string_view contents, const std::string& where) {
  if (contents.starts_with("version https://git-lfs.github.com/spec/")) {
    throw LfsPointerError(text(where,
                               ": is a Git LFS pointer, not the file itself; fetch it with `git "
                               "lfs pull` in its repository, or download the model again"));
  }
}

json parse_strict_json(std::string_view text, const std::string& where) {
  require_no_lfs_pointer(text, where);
  constexpr int kMaxDepth = 8;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    require(depth <= kMaxDepth, where, ": the JSON is nested too deeply");
    if (event == json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == json::parse_event_t::key) {
      require(keys.back().insert(value.get<std::string>()).second,
              where,
              ": the key '",
              value.get<std::string>(),
              "' appears twice");
    }
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::parse_error& error) {
    const auto before = text.substr(0, std::min(text.size(), error.byte == 0 ? 0 : error.byte - 1));
    const auto line = std::ranges::count(before, '\n') + 1;
    const auto column = before.size() - (before.rfind('\n') + 1) + 1;  // npos + 1 = 0
    fail(where,
         ": not valid JSON: ",
         before.size() + 1 >= text.size() ? "it ends too early (cut off?)" : "broken",
         " at line ",
         line,
         ", column ",
         column);
  } catch (const json::exception&) {
    fail(where, ": not valid JSON: a number or a text in it is not possible");
  }
}

const json& json_field(const json& object, const char* key, const std::string& where) {
  require(object.is_object() && object.contains(key), where, " has no '", key, "'");
  return object.at(key);
}

}  // namespace braid
