#include "data/json_array.h"

#include "core/error.h"

namespace braid {
namespace {

bool is_json_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

}  // namespace

std::string_view JsonArrayLines::next() {
  while (true) {
    const std::string_view piece = stream_.next();
    if (state_ == State::kBefore) {
      const auto first = piece.find_first_not_of(" \t\r\n");
      if (first != std::string_view::npos) {
        state_ = piece[first] == '[' ? State::kItems : State::kLines;
        if (state_ == State::kItems) {
          lines_.clear();
          convert(piece.substr(first + 1));
          if (!lines_.empty()) {
            return lines_;
          }
          continue;
        }
      }
    }
    if (!is_array()) {
      return piece;
    }
    if (piece.empty()) {
      require(state_ == State::kBehind,
              name_,
              ": its JSON array does not end (behind item ",
              items_,
              "); is the file cut off?");
      return {};
    }
    lines_.clear();
    convert(piece);
    if (!lines_.empty()) {
      return lines_;
    }
  }
}

void JsonArrayLines::convert(std::string_view piece) {
  for (const char c : piece) {
    add(c);
  }
}

void JsonArrayLines::add(char c) {
  if (in_string_) {
    in_string_ = c != '"' || escaped_;
    escaped_ = c == '\\' && !escaped_;
    lines_ += c == '\n' ? '\t' : c;  // wrong as it was, and still one line
    return;
  }
  if (depth_ == 0 && is_json_space(c)) {
    return;
  }
  require(state_ == State::kItems, name_, ": has something behind the end of its JSON array");
  if (depth_ == 0 && (c == ',' || c == ']')) {
    require(in_item_ || (c == ']' && items_ == 0),
            name_,
            ": its JSON array has no item before the '",
            c,
            "' behind item ",
            items_);
    end_item();
    state_ = c == ']' ? State::kBehind : state_;
    return;
  }
  in_item_ = true;
  in_string_ = c == '"';
  depth_ += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
  lines_ += c == '\n' ? ' ' : c;
}

void JsonArrayLines::end_item() {
  if (in_item_) {
    lines_ += '\n';
    ++items_;
  }
  in_item_ = false;
}

}  // namespace braid
