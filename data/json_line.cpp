#include "data/json_line.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/utf8.h"

namespace braid {
namespace {

/// What is wrong with a line.
struct LineFault {
  std::string what;
};

bool is_digit(char c) {
  return '0' <= c && c <= '9';
}

bool is_word_character(char c) {
  return is_digit(c) || ('a' <= (c | 0x20) && (c | 0x20) <= 'z') || c == '+' || c == '-' ||
         c == '.' || c == '_';
}

std::size_t after_digits(std::string_view word, std::size_t at) {
  while (at < word.size() && is_digit(word[at])) {
    ++at;
  }
  return at;
}

/// Of any size and precision.
bool is_number(std::string_view word) {
  const std::size_t begin = word.starts_with('-') ? 1 : 0;
  std::size_t at = after_digits(word, begin);
  if (at == begin) {
    return false;
  }
  if (word.substr(at).starts_with('.')) {
    const std::size_t fraction = at + 1;
    if ((at = after_digits(word, fraction)) == fraction) {
      return false;
    }
  }
  if (at < word.size() && (word[at] == 'e' || word[at] == 'E')) {
    ++at;
    at += at < word.size() && (word[at] == '+' || word[at] == '-');
    const std::size_t exponent = at;
    if ((at = after_digits(word, exponent)) == exponent) {
      return false;
    }
  }
  return at == word.size();
}

/// Reads a line from its beginning to its end; every function moves on behind what it names.
class LineScanner {
 public:
  explicit LineScanner(std::string_view line) : line_(line) {
    if (line_.starts_with("\xEF\xBB\xBF")) {  // of a file that was put behind another
      at_ = 3;
    }
  }

  std::size_t at() const { return at_; }
  bool at_end() const { return at_ == line_.size(); }
  /// The next character; '\0' at the end.
  char peek() const { return at_end() ? '\0' : line_[at_]; }

  void pass_space() {
    while (!at_end() && (peek() == ' ' || peek() == '\t' || peek() == '\r' || peek() == '\n')) {
      ++at_;
    }
  }

  /// Whether `c` comes next, behind white space.
  bool take(char c) {
    pass_space();
    const bool found = !at_end() && peek() == c;
    at_ += found;
    return found;
  }

  void expect(char c, const char* what) {
    if (!take(c)) {
      fail_at(at_, what);
    }
  }

  /// A string's characters as they are written, without its quotes.
  std::string_view raw_string(const char* expected) {
    expect('"', expected);
    const std::size_t begin = at_;
    while ((at_ = line_.find_first_of("\"\\", at_)) != std::string_view::npos &&
           line_[at_] == '\\' && at_ + 1 < line_.size()) {
      at_ += 2;
    }
    if (at_ == std::string_view::npos || line_[at_] == '\\') {
      at_ = line_.size();
      fail_at(at_, "the line ends within a string");
    }
    return line_.substr(begin, at_++ - begin);
  }

  void pass_key() {
    raw_string("expected a key in double quotes");
    expect(':', "expected ':' behind a key");
  }

  /// Any value, however deep.
  void pass_value() {
    std::string open;  // a bracket for each object and list around
    do {
      pass_space();
      const char c = peek();
      if (c == '{' || c == '[') {
        ++at_;
        open += c;
        if (!take(closing(c))) {
          if (c == '{') {
            pass_key();
          }
          continue;
        }
        open.pop_back();
      } else if (c == '"') {
        raw_string("");
      } else {
        pass_word();
      }
      pass_ends(open);
    } while (!open.empty());
  }

  /// What a value that begins here is.
  const char* kind() {
    pass_space();
    const char c = peek();
    if (c == '{') {
      return "an object";
    }
    if (c == '[') {
      return "a list";
    }
    if (c == '"') {
      return "a string";
    }
    const std::string_view word = pass_word();
    return word == "null" ? "null" : word == "true" || word == "false" ? "a boolean" : "a number";
  }

  [[noreturn]] static void fail_at(std::size_t at, const char* reason) {
    throw LineFault{text("is not valid JSON at byte ", at + 1, " of the line (", reason, ")")};
  }

 private:
  static char closing(char bracket) { return bracket == '{' ? '}' : ']'; }

  // Behind a value: the brackets that close, up to the comma before the next one.
  void pass_ends(std::string& open) {
    while (!open.empty()) {
      const bool in_object = open.back() == '{';
      if (take(',')) {
        if (in_object) {
          pass_key();
        }
        return;
      }
      expect(closing(open.back()), in_object ? "expected ',' or '}'" : "expected ',' or ']'");
      open.pop_back();
    }
  }

  std::string_view pass_word() {
    const std::size_t begin = at_;
    while (!at_end() && is_word_character(peek())) {
      ++at_;
    }
    const std::string_view word = line_.substr(begin, at_ - begin);
    for (const auto* known : {"null", "true", "false", "NaN", "Infinity", "-Infinity"}) {
      if (word == known) {
        return word;
      }
    }
    if (!is_number(word)) {
      fail_at(begin, "expected a value");
    }
    return word;
  }

  std::string_view line_;
  std::size_t at_ = 0;
};

void append_utf8(uint32_t c, std::string& to) {
  const auto put = [&to](uint32_t byte) { to += static_cast<char>(byte); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

/// What a string's characters, as they are written, stand for.
class StringDecoder {
 public:
  /// `raw` begins at byte `place` of the line, from 0.
  StringDecoder(std::string_view raw, std::size_t place) : raw_(raw), place_(place) {}

  std::string decoded() {
    while (at_ < raw_.size()) {
      const auto c = static_cast<unsigned char>(raw_[at_]);
      if (c == '\\') {
        escape();
      } else if (c < 0x20) {
        fail("invalid string: a control character has to be written as an escape");
      } else {
        const auto [length, fitting] = utf8_sequence_at(raw_.substr(at_));
        if (fitting != length) {
          fail("invalid string: ill-formed UTF-8 byte");
        }
        text_ += raw_.substr(at_, length);
        at_ += length;
      }
    }
    return std::move(text_);
  }

 private:
  [[noreturn]] void fail(const char* reason) const { LineScanner::fail_at(place_ + at_, reason); }

  void escape() {
    constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const char letter = raw_[at_ + 1];  // a raw string does not end within an escape
    if (letter == 'u') {
      code_point();
      return;
    }
    const auto which = kLetters.find(letter);
    if (which == std::string_view::npos) {
      fail("invalid string: no such escape");
    }
    text_ += kMeanings[which];
    at_ += 2;
  }

  void code_point() {
    uint32_t c = code_unit(at_);
    std::size_t length = 6;
    if (0xD800 <= c && c < 0xE000) {
      const bool high = c < 0xDC00 && raw_.substr(at_ + 6).starts_with("\\u");
      const uint32_t low = high ? code_unit(at_ + 6) : 0;
      if (low < 0xDC00 || low > 0xDFFF) {
        fail("invalid string: half of a surrogate pair without its other half");
      }
      c = 0x10000 + ((c & 0x3FF) << 10) + (low & 0x3FF);
      length = 12;
    }
    append_utf8(c, text_);
    at_ += length;
  }

  // Of the escape that begins at `at`.
  uint32_t code_unit(std::size_t at) const {
    uint32_t value = 0;
    for (std::size_t i = at + 2; i < at + 6; ++i) {
      const char c = i < raw_.size() ? raw_[i] : '\0';
      const char letter = static_cast<char>(c | 0x20);
      if (!is_digit(c) && !('a' <= letter && letter <= 'f')) {
        fail("invalid string: expected four hexadecimal digits behind \\u");
      }
      value = value << 4 | static_cast<uint32_t>(is_digit(c) ? c - '0' : letter - 'a' + 10);
    }
    return value;
  }

  std::string_view raw_;
  std::size_t place_, at_ = 0;
  std::string text_;
};

// nullopt: no string that could be asked for.
std::optional<std::string> decoded_key(std::string_view raw) {
  try {
    return StringDecoder(raw, 0).decoded();
  } catch (const LineFault&) {
    return std::nullopt;
  }
}

bool is_key(std::string_view raw, const std::string& key) {
  return raw.find('\\') == std::string_view::npos ? raw == key : decoded_key(raw) == key;
}

/// Calls `visit(raw key, scanner)` for each member of the object that `line` is; it reads the
/// value.
template <class Visit>
void visit_members(std::string_view line, const Visit& visit) {
  LineScanner scanner(line);
  if (const std::string kind = scanner.kind(); kind != "an object") {
    throw LineFault{"is " + kind};
  }
  scanner.take('{');
  bool more = !scanner.take('}');
  while (more) {
    const std::string_view key = scanner.raw_string("expected a key in double quotes");
    scanner.expect(':', "expected ':' behind a key");
    visit(key, scanner);
    more = scanner.take(',');
    if (!more) {
      scanner.expect('}', "expected ',' or '}'");
    }
  }
  scanner.pass_space();
  if (!scanner.at_end()) {
    LineScanner::fail_at(scanner.at(), "expected the end of the line");
  }
}

[[noreturn]] void fail_twice(const std::string& key) {
  throw LineFault{"has the key '" + key + "' twice"};
}

std::string text_under(std::string_view line, const std::string& key) {
  std::optional<std::string> text;
  visit_members(line, [&](std::string_view raw, LineScanner& scanner) {
    if (!is_key(raw, key)) {
      scanner.pass_value();
      return;
    }
    if (text) {
      fail_twice(key);
    }
    if (const std::string kind = scanner.kind(); kind != "a string") {
      throw LineFault{"has " + kind + " under '" + key + "'"};
    }
    const std::size_t place = scanner.at() + 1;
    text = StringDecoder(scanner.raw_string(""), place).decoded();
  });
  if (!text) {
    throw LineFault{"has no key '" + key + "'"};
  }
  return std::move(*text);
}

}  // namespace

std::string take_json_text(std::string_view line, const std::string& key, std::string& text) {
  try {
    text = text_under(line, key);
    return {};
  } catch (const LineFault& fault) {
    return fault.what;
  }
}

std::string take_json_values(std::string_view line,
                             const std::vector<std::string>& keys,
                             std::vector<std::optional<std::string_view>>& values) {
  values.assign(keys.size(), std::nullopt);
  try {
    visit_members(line, [&](std::string_view raw, LineScanner& scanner) {
      scanner.pass_space();
      const std::size_t begin = scanner.at();
      scanner.pass_value();
      for (std::size_t i = 0; i < keys.size(); ++i) {
        if (is_key(raw, keys[i])) {
          if (values[i]) {
            fail_twice(keys[i]);
          }
          values[i] = line.substr(begin, scanner.at() - begin);
        }
      }
    });
    return {};
  } catch (const LineFault& fault) {
    return fault.what;
  }
}

std::vector<std::string> json_keys(std::string_view line) {
  std::vector<std::string> keys;
  try {
    visit_members(line, [&keys](std::string_view raw, LineScanner& scanner) {
      if (auto key = decoded_key(raw)) {
        keys.push_back(std::move(*key));
      }
      scanner.pass_value();
    });
  } catch (const LineFault&) {
    keys.clear();
  }
  return keys;
}

}  // namespace braid
