#include "report/markup.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace braid {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// The bytes of the character that `text` begins with; 0 where it begins with none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const std::size_t length = first < 0x80                     ? 1
                             : first >= 0xC2 && first < 0xE0  ? 2
                             : first >= 0xE0 && first < 0xF0  ? 3
                             : first >= 0xF0 && first <= 0xF4 ? 4
                                                              : 0;
  if (length == 0 || length > text.size()) {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) {
      return 0;
    }
  }
  const bool too_long = (first == 0xE0 && byte(1) < 0xA0) || (first == 0xF0 && byte(1) < 0x90);
  const bool no_character = (first == 0xED && byte(1) >= 0xA0) ||  // surrogates
                            (first == 0xF4 && byte(1) >= 0x90) ||
                            (first == 0xEF && byte(1) == 0xBF && byte(2) >= 0xBE);
  return too_long || no_character ? 0 : length;
}

std::string picture_of_control(unsigned char control) {
  return control == 0x7F ? "\xE2\x90\xA1"
                         : std::string("\xE2\x90") + static_cast<char>(0x80 + control);
}

void append_escaped_ascii(std::string& result, char c) {
  switch (c) {
    case '&':
      result += "&amp;";
      return;
    case '<':
      result += "&lt;";
      return;
    case '>':
      result += "&gt;";
      return;
    case '"':
      result += "&quot;";
      return;
    default:
      const auto code = static_cast<unsigned char>(c);
      const bool is_control = (code < 0x20 && c != '\n' && c != '\t') || code == 0x7F;
      result += is_control ? picture_of_control(code) : std::string(1, c);
  }
}

// Elements that HTML knows without an end tag.
bool is_void(std::string_view element) {
  constexpr std::array kVoid = {std::string_view("meta"),
                                std::string_view("input"),
                                std::string_view("br"),
                                std::string_view("img"),
                                std::string_view("col")};
  return std::find(kVoid.begin(), kVoid.end(), element) != kVoid.end();
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const auto length = utf8_length(text);
    if (length == 1) {
      append_escaped_ascii(result, text.front());
    } else {
      result += length == 0 ? kReplacement : text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return result;
}

void Markup::begin(std::string_view element, const Attributes& attributes) {
  written_ += '<';
  written_ += element;
  for (const auto& [name, value] : attributes) {
    written_ += ' ';
    written_ += name;
    written_ += "=\"";
    written_ += escaped(value);
    written_ += '"';
  }
}

Markup& Markup::open(std::string_view element, const Attributes& attributes) {
  begin(element, attributes);
  written_ += '>';
  open_.emplace_back(element);
  return *this;
}

Markup& Markup::close() {
  require(!open_.empty(), "[Markup] no element is open");
  written_ += "</" + open_.back() + ">";
  open_.pop_back();
  return *this;
}

Markup& Markup::text(std::string_view text) {
  written_ += escaped(text);
  return *this;
}

Markup& Markup::leaf(std::string_view element,
                     const Attributes& attributes,
                     std::string_view text) {
  if (is_void(element)) {
    begin(element, attributes);
    written_ += "/>";
    return *this;
  }
  open(element, attributes);
  this->text(text);
  return close();
}

Markup& Markup::raw(std::string_view markup) {
  written_ += markup;
  return *this;
}

Markup& Markup::line() {
  written_ += '\n';
  return *this;
}

std::string Markup::take() {
  require(open_.empty(), "[Markup] <", open_.empty() ? "" : open_.back(), "> is still open");
  return std::move(written_);
}

}  // namespace braid
