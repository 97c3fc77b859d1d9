#include "data/jsonl.h"

#include <utility>

#include "core/error.h"
#include "data/json_line.h"

namespace braid {

JsonRows::JsonRows(ByteStream& stream, const std::string& name, Options options, Take take)
    : options_(std::move(options)),
      take_(std::move(take)),
      array_(stream, name),
      lines_(options_.may_be_array ? array_ : stream, name, options_.longest) {}

bool JsonRows::next() {
  while (const auto line = lines_.next()) {
    if (read(*line)) {
      return true;
    }
    if (bad_.count() > 0 && options_.on_bad_line == OnBadLine::kError) {
      fail_with_next_ones();
    }
  }
  return false;
}

// False for a blank line, and for a bad one, which is noted.
bool JsonRows::read(std::string_view line) {
  std::string fault;
  if (lines_.too_long()) {
    fault = text("has more than ", options_.longest, " bytes, which is all that a line may have");
  } else if (line.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return false;
  } else {
    fault = take_(line);
  }
  if (fault.empty()) {
    return true;
  }
  if (is_array()) {
    bad_.are_items();
  }
  bad_.add(lines_.number(), std::move(fault));
  return false;
}

void JsonRows::fail_with_next_ones() {
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
  fail(bad_.error(lines_.name()), "; ", options_.expected);
}

std::string JsonRows::place() const {
  return text(is_array() ? "item " : "line ", number());
}

std::string JsonRows::full_place() const {
  return text(lines_.name(), is_array() ? ": item " : ":", number());
}

std::string JsonRows::note() const {
  return bad_.count() == 0 ? std::string() : bad_.note(lines_.name(), lines_.number() - 1);
}

JsonlReader::JsonlReader(ByteStream& stream, const std::string& name, const JsonlOptions& options)
    : rows_(stream,
            name,
            {.longest = options.longest_line,
             .on_bad_line = options.on_bad_line,
             .expected = text("expected an object with a string under '",
                              options.text_key,
                              "', such as {\"",
                              options.text_key,
                              "\": \"...\"} (the key is data.text_key); data.on_bad_sample: "
                              "skip leaves such lines out")},
            [this, key = options.text_key](std::string_view line) {
              return take_json_text(line, key, text_);
            }) {}

std::optional<std::string_view> JsonlReader::next() {
  return rows_.next() ? std::optional<std::string_view>(text_) : std::nullopt;
}

}  // namespace braid
