#include "checkpoint/strict_json.h"

#include <algorithm>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "core/error.h"

namespace braid {

using nlohmann::json;

namespace {

/// Looks at keys and depth alone. (A parser with a callback could do so too, but takes quadratic
/// time for an object with many objects in it.) What is no JSON ends it without an error.
class KeyCheck : public json::json_sax_t {
 public:
  explicit KeyCheck(const std::string& where) : where_(where) {}

  bool start_object(std::size_t) override {
    deeper();
    keys_.emplace_back();
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return true;
  }
  bool key(std::string& name) override {
    require(keys_.back().insert(name).second, where_, ": the key '", name, "' appears twice");
    return true;
  }
  bool start_array(std::size_t) override {
    deeper();
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception&) override {
    return false;
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(std::int64_t) override { return true; }
  bool number_unsigned(std::uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(json::binary_t&) override { return true; }

 private:
  void deeper() {
    constexpr int kMaxDepth = 8;
    require(depth_++ <= kMaxDepth, where_, ": the JSON is nested too deeply");
  }

  const std::string& where_;
  int depth_ = 0;
  std::vector<std::unordered_set<std::string>> keys_;  // of the objects that are open
};

}  // namespace

void require_no_lfs_pointer(std::string_view contents, const std::string& where) {
  if (contents.starts_with("version https://git-lfs.github.com/spec/")) {
    throw LfsPointerError(text(where,
                               ": is a Git LFS pointer, not the file itself; fetch it with `git "
                               "lfs pull` in its repository, or download the model again"));
  }
}

json parse_strict_json(std::string_view text, const std::string& where) {
  require_no_lfs_pointer(text, where);
  KeyCheck check(where);
  json::sax_parse(text, &check);
  try {
    return json::parse(text);
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
