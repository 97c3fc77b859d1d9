#include "data/v4_splitter.h"

#include <cstddef>

#include "core/utf8.h"
#include "data/unicode_classes.h"

namespace braid {

const std::array<const char*, 3> V4Splitter::kPatterns = {
    "\\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\r\n]*|"
    "\\s*[\r\n]+|"
    "\\s+(?!\\S)|"
    "\\s+"};

namespace {

bool is_ascii_letter(char c) {
  return ('A' <= c && c <= 'Z') || ('a' <= c && c <= 'z');
}

bool is_line_end(char c) {
  return c == '\r' || c == '\n';
}

// The second pattern's class: common ideographs, hiragana, katakana.
bool is_east_asian(uint32_t code_point) {
  return (0x4E00 <= code_point && code_point <= 0x9FA5) ||
         (0x3040 <= code_point && code_point <= 0x30FF);
}

/// Reads valid UTF-8 between two pointers.
class V4Scanner {
  using enum UnicodeClass;

 public:
  V4Scanner(std::string_view text, PieceSink& sink)
      : end_(text.data() + text.size()), classes_(unicode_classes()), sink_(sink) {}

  /// The first two patterns: what is between numbers and East Asian runs goes to the third.
  void scan(const char* at) {
    while (at < end_) {
      const auto [code_point, length] = utf8_character_at(at);
      const char* next = at + length;
      if (classes_[code_point] == kNumber) {
        for (int digits = 1; digits < 3 && next < end_ && class_at(next) == kNumber; ++digits) {
          next += utf8_character_at(next).length;
        }
        take(at, next);
      } else {
        const bool east_asian = is_east_asian(code_point);
        next = run_end(next, east_asian);
        words(at, next);
      }
      at = next;
    }
  }

 private:
  UnicodeClass class_at(const char* at) const { return classes_[utf8_character_at(at).code_point]; }

  const char* after(const char* at) const { return at + utf8_character_at(at).length; }

  void take(const char* begin, const char* end) {
    sink_.take({begin, static_cast<std::size_t>(end - begin)});
  }

  // Where a stretch of East Asian characters, or of anything but those and numbers, ends.
  const char* run_end(const char* at, bool east_asian) const {
    while (at < end_) {
      const auto [code_point, length] = utf8_character_at(at);
      if (is_east_asian(code_point) != east_asian || classes_[code_point] == kNumber) {
        break;
      }
      at += length;
    }
    return at;
  }

  // The third pattern within a stretch; what matches nothing stays together until the next match.
  void words(const char* at, const char* end) {
    const char* unmatched = at;
    while (at < end) {
      const char* const matched = match(at, end);
      if (matched == at) {
        at = after(at);
        continue;
      }
      if (unmatched < at) {
        take(unmatched, at);
      }
      take(at, matched);
      at = unmatched = matched;
    }
    if (unmatched < end) {
      take(unmatched, end);
    }
  }

  // The end of the first alternative that matches here, or `at`. A stretch holds no numbers.
  const char* match(const char* at, const char* end) const {
    const auto [code_point, length] = utf8_character_at(at);
    const UnicodeClass kind = classes_[code_point];
    const char* const next = at + length;
    switch (kind) {
      case kLetter:
      case kMark:
        return letters(at, end);
      case kPunctuation:
      case kSymbol:
        if (length == 1 && next < end && is_ascii_letter(*next)) {
          return ascii_letters(next, end);
        }
        return marks_of_punctuation(at, end);
      default:
        break;
    }
    // Any one other character but a line end may lead a word, a space also punctuation.
    if (!is_line_end(*at) && next < end) {
      const UnicodeClass following = class_at(next);
      if (following == kLetter || following == kMark) {
        return letters(next, end);
      }
      if (*at == ' ' && (following == kPunctuation || following == kSymbol)) {
        return marks_of_punctuation(next, end);
      }
    }
    return kind == kSpace ? spaces(at, end) : at;
  }

  const char* ascii_letters(const char* at, const char* end) const {
    while (at < end && is_ascii_letter(*at)) {
      ++at;
    }
    return at;
  }

  const char* letters(const char* at, const char* end) const {
    while (at < end) {
      if (is_ascii_letter(*at)) {
        ++at;
        continue;
      }
      const auto [code_point, length] = utf8_character_at(at);
      if (classes_[code_point] != kLetter && classes_[code_point] != kMark) {
        break;
      }
      at += length;
    }
    return at;
  }

  // [\p{P}\p{S}]+[\r\n]*
  const char* marks_of_punctuation(const char* at, const char* end) const {
    while (at < end) {
      const auto [code_point, length] = utf8_character_at(at);
      if (classes_[code_point] != kPunctuation && classes_[code_point] != kSymbol) {
        break;
      }
      at += length;
    }
    while (at < end && is_line_end(*at)) {
      ++at;
    }
    return at;
  }

  // \s*[\r\n]+ as far as the last line end, else \s+(?!\S), which leaves the last space before a
  // word, else \s+.
  const char* spaces(const char* at, const char* end) const {
    const char* const begin = at;
    const char* last = at;
    const char* after_line_end = nullptr;
    while (at < end) {
      const auto [code_point, length] = utf8_character_at(at);
      if (classes_[code_point] != kSpace) {
        break;
      }
      last = at;
      at += length;
      after_line_end = is_line_end(*last) ? at : after_line_end;
    }
    if (after_line_end != nullptr) {
      return after_line_end;
    }
    return at == end || last == begin ? at : last;
  }

  const char* end_;
  const UnicodeClass* classes_;
  PieceSink& sink_;
};

}  // namespace

void V4Splitter::split(std::string_view text, PieceSink& sink) const {
  V4Scanner(text, sink).scan(text.data());
}

}  // namespace braid
