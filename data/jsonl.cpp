#include "data/jsonl.h"

#include <utility>

#include "core/error.h"
#include "data/json_line.h"

namespace braid {

JsonlReader::JsonlReader(ByteStream& stream, const std::string& name, JsonlOptions options)
    : options_(std::move(options)), lines_(stream, name, options_.longest_line) {}

std::optional<std::string_view> JsonlReader::next() {
  while (const auto line = lines_.next()) {
    if (read(*line)) {
      return text_;
    }
    if (bad_.count() > 0 && options_.on_bad_line == OnBadLine::kError) {
      fail_with_next_ones();
    }
  }
  return std::nullopt;
}

// Into text_. False for a blank line, and for a bad one, which is noted.
bool JsonlReader::read(std::string_view line) {
  std::string fault;
  if (lines_.too_long()) {
    fault =
        text("has more than ", options_.longest_line, " bytes, which is all that a line may have");
  } else if (line.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return false;
  } else {
    fault = take_json_text(line, options_.text_key, text_);
  }
  if (!fault.empty()) {
    bad_.add(lines_.number(), std::move(fault));
    return false;
  }
  return true;
}

void JsonlReader::fail_with_next_ones() {
  constexpr std::size_t kLookedAt = std::size_t{64} << 20;  // bytes: no error takes long to come
  std::size_t looked_at = 0;
  while (bad_.count() < static_cast<int64_t>(BadLines::kNamed) && looked_at < kLookedAt) {
    const auto line = lines_.next();
    if (!line) {
      break;
    }
    read(*line);
    looked_at += lines_.too_long() ? kLookedAt : line->size();
  }
  fail(bad_.error(lines_.name()),
       "; expected an object with a string under '",
       options_.text_key,
       "', such as {\"",
       options_.text_key,
       "\": \"...\"} (the key is data.text_key); data.on_bad_line: skip leaves such lines out");
}

std::string JsonlReader::note() const {
  return bad_.count() == 0 ? std::string() : bad_.note(lines_.name(), lines_.number() - 1);
}

}  // namespace braid
