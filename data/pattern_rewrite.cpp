#include "data/pattern_rewrite.h"

#include <array>
#include <cctype>

#include "core/error.h"

namespace braid {
namespace {

// The insides of a class: Oniguruma's white space, and the rest.
constexpr const char* kSpaces =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";
constexpr const char* kNotSpaces =
    "\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}"
    "\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-"
    "\\x{10FFFF}";

constexpr std::array<std::string_view, 7> kGroups = {
    "(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};

class PatternRewriter {
 public:
  explicit PatternRewriter(std::string_view pattern) : rest_(pattern) {}

  std::string rewrite() {
    while (!rest_.empty()) {
      outside_class();
    }
    return std::move(result_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail("the pattern uses ",
         parts...,
         " at '",
         rest_.substr(0, 16),
         "', which is not supported: other engines than Hugging Face's may read it differently");
  }

  void copy(std::size_t length) {
    result_ += rest_.substr(0, length);
    rest_.remove_prefix(length);
  }

  void outside_class() {
    switch (rest_[0]) {
      case '\\':
        escape(/*in_class=*/false);
        break;
      case '[':
        character_class();
        break;
      case '(':
        group();
        break;
      case '{':
        repetition();
        break;
      case '^':
      case '$':
        refuse("the anchor ", rest_[0]);
      default:
        copy(1);
    }
  }

  void group() {
    if (!rest_.starts_with("(?")) {
      copy(1);
      return;
    }
    for (const auto group : kGroups) {
      if (rest_.starts_with(group)) {
        copy(group.size());
        return;
      }
    }
    refuse("the group ", rest_.substr(0, 3));
  }

  // {n}, {n,}, {n,m}
  void repetition() {
    const auto end = rest_.find('}');
    const auto inside = rest_.substr(0, end).substr(1);
    if (end == std::string_view::npos || inside.empty() || std::isdigit(byte_at(inside, 0)) == 0 ||
        inside.find_first_not_of("0123456789,") != std::string_view::npos) {
      refuse("the repetition ", rest_.substr(0, end));
    }
    if (rest_.substr(end + 1).starts_with('+')) {
      refuse("a repetition followed by +");
    }
    copy(end + 1);
  }

  void character_class() {
    copy(1);
    if (rest_.starts_with('^')) {
      copy(1);
    }
    if (rest_.starts_with(']')) {
      refuse("an unescaped ] in a class");
    }
    while (!rest_.empty() && rest_[0] != ']') {
      if (rest_[0] == '\\') {
        escape(/*in_class=*/true);
      } else if (rest_[0] == '[') {
        refuse("a class in a class");
      } else if (rest_.starts_with("&&")) {
        refuse("an intersection of classes");
      } else {
        copy(1);
      }
    }
    if (rest_.empty()) {
      fail("the pattern has a class without an end");
    }
    copy(1);
  }

  void escape(bool in_class) {
    if (rest_.size() < 2) {
      fail("the pattern ends in a backslash");
    }
    const char kind = rest_[1];
    if (kind == 's' || kind == 'S') {
      const char* const list = kind == 's' ? kSpaces : kNotSpaces;
      result_ += in_class ? std::string(list) : text("[", list, "]");
      rest_.remove_prefix(2);
    } else if (kind == 'p' || kind == 'P') {
      property();
    } else if (kind == 'r' || kind == 'n' || kind == 't' || kind == 'f' || kind == 'd' ||
               std::ispunct(byte_at(rest_, 1)) != 0 || kind == ' ') {
      copy(2);
    } else if (kind == 'u') {
      code_point();
    } else {
      refuse("\\", kind);
    }
  }

  // \p{L}, \p{Lu}, \p{Han}
  void property() {
    const auto end = rest_.find('}');
    if (rest_.size() < 4 || rest_[2] != '{' || end == std::string_view::npos || end == 3) {
      refuse("a property without {name}");
    }
    for (const char c : rest_.substr(3, end - 3)) {
      if (std::isalpha(static_cast<unsigned char>(c)) == 0) {
        refuse("the property ", rest_.substr(0, end + 1));
      }
    }
    copy(end + 1);
  }

  // \uHHHH
  void code_point() {
    const auto digits = rest_.substr(2, 4);
    if (digits.size() < 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos) {
      refuse("\\u without four digits");
    }
    result_ += text("\\x{", digits, "}");
    rest_.remove_prefix(6);
  }

  static int byte_at(std::string_view bytes, std::size_t i) {
    return static_cast<unsigned char>(bytes[i]);
  }

  std::string_view rest_;
  std::string result_;
};

}  // namespace

std::string pcre_pattern(std::string_view pattern) {
  return PatternRewriter(pattern).rewrite();
}

}  // namespace braid
