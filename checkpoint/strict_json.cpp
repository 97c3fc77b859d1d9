#include "checkpoint/strict_json.h"

#include <set>
#include <vector>

#include "core/error.h"

namespace braid {

using nlohmann::json;

void require_no_lfs_pointer(std::string_view contents, const std::string& where) {
  require(!contents.starts_with("version https://git-lfs.github.com/spec/"),
          where,
          ": is a Git LFS pointer, not the file itself; fetch it with `git lfs pull` in its "
          "repository, or download the model again");
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
  } catch (const json::exception& error) {
    fail(where, ": not valid JSON: ", error.what());
  }
}

const json& json_field(const json& object, const char* key, const std::string& where) {
  require(object.is_object() && object.contains(key), where, " has no '", key, "'");
  return object.at(key);
}

}  // namespace braid
