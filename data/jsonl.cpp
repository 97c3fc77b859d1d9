#include "data/jsonl.h"

#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace braid {
namespace {

using nlohmann::json;

/// Takes one string out of a line's JSON without building a tree of the rest.
class TextFinder : public nlohmann::json_sax<json> {
 public:
  TextFinder(const LineReader& lines, const std::string& key) : lines_(lines), key_(key) {}

  /// Every value comes here, containers at their start.
  bool value(const char* kind) {
    if (depth_ == 0) {
      fail_line("is ", kind);
    }
    if (std::exchange(wanted_, false)) {
      fail_line("has ", kind, " under '", key_, "'");
    }
    return true;
  }

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }
  bool binary(binary_t&) override { return value("binary data"); }

  bool string(string_t& value_text) override {
    if (std::exchange(wanted_, false)) {
      text_ = std::move(value_text);
      return true;
    }
    return value("a string");
  }

  bool start_object(std::size_t) override {
    if (depth_ > 0) {
      value("an object");
    }
    ++depth_;
    return true;
  }
  bool start_array(std::size_t) override {
    value("a list");
    ++depth_;
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }

  bool key(string_t& name) override {
    wanted_ = depth_ == 1 && name == key_;
    if (wanted_ && text_) {
      fail_line("has the key '", key_, "' twice");
    }
    return true;
  }

  bool parse_error(std::size_t position,
                   const std::string&,
                   const nlohmann::detail::exception& error) override {
    // "[json...] parse error at ...: syntax error while parsing value - REASON; last read: 'TEXT'"
    std::string reason = error.what();
    reason.resize(std::min(reason.find("; last read"), reason.size()));
    const auto start = reason.find(" - ");
    reason.erase(0, start == std::string::npos ? 0 : start + 3);
    fail_line("is not valid JSON at byte ", position, " of the line (", reason, ")");
  }

  std::string take_text() {
    if (!text_) {
      fail_line("has no key '", key_, "'");
    }
    return std::move(*text_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail_line(const Parts&... parts) const {
    fail(lines_.where(),
         ": this line ",
         parts...,
         "; expected an object with a string under '",
         key_,
         "', such as {\"",
         key_,
         "\": \"...\"} (the key is data.text_key)");
  }

  const LineReader& lines_;
  const std::string& key_;
  int depth_ = 0;
  bool wanted_ = false;  // the next value is the text
  std::optional<std::string> text_;
};

}  // namespace

JsonlReader::JsonlReader(ByteStream& stream, const std::string& name, JsonlOptions options)
    : options_(std::move(options)), lines_(stream, name, options_.longest_line) {}

std::optional<std::string_view> JsonlReader::next() {
  while (const auto line = lines_.next()) {
    if (line->find_first_not_of(" \t\r\n") == std::string_view::npos) {
      continue;
    }
    TextFinder finder(lines_, options_.text_key);
    json::sax_parse(line->begin(), line->end(), &finder);
    text_ = finder.take_text();
    return text_;
  }
  return std::nullopt;
}

}  // namespace braid
