#include "core/config_value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>
#include <system_error>

#include "core/error.h"
#include "core/nearest.h"
#include "core/utf8.h"

namespace braid {
namespace {

const std::string& require_number(const ConfigNode& node,
                                  const std::string& path,
                                  const std::string& expected) {
  if (node.kind == ConfigNode::Kind::kScalar && !node.quoted) {
    return node.scalar;
  }
  fail_at(path,
          node,
          text("expected ",
               expected,
               ", got ",
               described(node),
               node.quoted ? "; remove the quotes" : ""));
}

// The scalar without its sign.
std::string_view magnitude(std::string_view scalar) {
  const bool has_sign = !scalar.empty() && (scalar[0] == '+' || scalar[0] == '-');
  return scalar.substr(has_sign);
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool has_leading_zero(std::string_view number) {
  return number.size() > 1 && number[0] == '0' && is_digit(number[1]);
}

// Why a scalar that people write for a number is not one here, or "".
std::string number_hint(std::string_view scalar) {
  const auto number = magnitude(scalar);
  if (number == ".nan" || number == ".inf" || number == "nan" || number == "inf") {
    return "; it must be finite";
  }
  if (number.empty() || !is_digit(number[0])) {
    return "";
  }
  if (has_leading_zero(number)) {
    return "; leading zeros are not allowed (some readers take them for octal)";
  }
  if (number.find('_') != std::string_view::npos) {
    return "; write it without underscores";
  }
  return number.substr(0, 2) == "0x" ? "; write it in decimal" : "";
}

template <class Number>
Number parsed(const ConfigNode& node, const std::string& path, const std::string& expected) {
  Number value = 0;
  const char* begin = node.scalar.data() + (node.scalar[0] == '+');
  const char* end = node.scalar.data() + node.scalar.size();
  const auto [stopped, error] = std::from_chars(begin, end, value);
  if (error == std::errc::result_out_of_range) {
    fail_at(path,
            node,
            text("expected ", expected, ", got ", described(node), "; it does not fit 64 bits"));
  }
  if (error != std::errc{} || stopped != end) {
    fail_at(path, node, text("expected ", expected, ", got ", described(node)));
  }
  return value;
}

template <class Number>
void check_bounds(Number value,
                  const ConfigNode& node,
                  const std::string& path,
                  const Bounds& bounds) {
  const auto x = static_cast<double>(value);
  if (x < bounds.low || x > bounds.high || (x == bounds.low && !bounds.low_allowed)) {
    fail_at(path, node, text("must be", bounds_text(bounds), ", got ", node.scalar));
  }
}

// Beyond these no key has a meaning, and sums and products of values would leave 64 bits. A field
// whose bounds name an upper limit of its own is held to that alone.
constexpr int64_t kLargestCount = 1'000'000'000'000'000;
constexpr double kSmallestReal = 1e-30, kLargestReal = 1e100;

void check_size(int64_t value,
                const ConfigNode& node,
                const std::string& path,
                const Bounds& bounds) {
  if (!std::isfinite(bounds.high) && (value > kLargestCount || value < -kLargestCount)) {
    fail_at(path, node, text("is ", node.scalar, "; at most ", kLargestCount, " is possible"));
  }
}

void check_size(double value,
                const ConfigNode& node,
                const std::string& path,
                const Bounds& bounds) {
  const double size = std::abs(value);
  if ((size > kLargestReal && !std::isfinite(bounds.high)) || (size > 0 && size < kSmallestReal)) {
    fail_at(path,
            node,
            text("is ",
                 node.scalar,
                 "; expected 0, or a number between ",
                 real_text(kSmallestReal),
                 " and ",
                 real_text(kLargestReal),
                 " in size: float32 cannot divide by smaller ones"));
  }
}

// What a text of one line cannot hold, or "". A tab and a form feed may be part of a separator.
std::string forbidden_character(std::string_view line) {
  for (std::size_t i = 0; i < line.size();) {
    const auto [whole, fitting] = utf8_sequence_at(line.substr(i));
    if (whole == 0 || fitting < whole) {
      return "bytes that are no UTF-8";
    }
    const auto [code, length] = utf8_character_at(line.data() + i);
    i += length;
    if (code == '\n' || code == '\r' || code == '\v' || code == 0x85 || code == 0x2028 ||
        code == 0x2029) {
      return "a line break";
    }
    if (code == 0) {
      return "a NUL character";
    }
    if ((code < 0x20 && code != '\t' && code != '\f') || (code >= 0x7f && code < 0xa0)) {
      return text("the control character ", code);
    }
  }
  return "";
}

}  // namespace

std::string bounds_text(const Bounds& bounds) {
  if (bounds.high == 0x1p63) {  // of whole numbers: all that fit
    return text(" in [", real_text(bounds.low), ", ", std::numeric_limits<int64_t>::max(), "]");
  }
  if (std::isfinite(bounds.high)) {
    return text(" in [", real_text(bounds.low), ", ", real_text(bounds.high), "]");
  }
  if (std::isfinite(bounds.low)) {
    return text(bounds.low_allowed ? " >= " : " > ", real_text(bounds.low));
  }
  return "";
}

void fail_at(const std::string& path, const ConfigNode& node, const std::string& message) {
  fail(path, path.empty() ? "" : " (", node.place, path.empty() ? ": " : "): ", message);
}

void fail_required(const std::string& path, const std::string& key, const ConfigNode& mapping) {
  fail_at(path,
          mapping,
          text(mapping.find(key) == nullptr ? "lacks the key '" : "has an empty '",
               key,
               "'; got ",
               inline_yaml_text(mapping)));
}

int64_t read_integer(const ConfigNode& node, const std::string& path, const Bounds& bounds) {
  const std::string expected = "a whole number" + bounds_text(bounds);
  const auto number = magnitude(require_number(node, path, expected));
  if (!std::all_of(number.begin(), number.end(), is_digit) || number.empty() ||
      has_leading_zero(number)) {
    const bool is_real = number.find_first_not_of("0123456789.eE+-") == std::string_view::npos &&
                         number.find_first_of("eE") != std::string_view::npos;
    fail_at(path,
            node,
            text("expected ",
                 expected,
                 ", got ",
                 described(node),
                 is_real ? "; write all its digits" : number_hint(node.scalar)));
  }
  const auto value = parsed<int64_t>(node, path, expected);
  check_bounds(value, node, path, bounds);
  check_size(value, node, path, bounds);
  return value;
}

double read_real(const ConfigNode& node, const std::string& path, const Bounds& bounds) {
  const std::string expected = "a number" + bounds_text(bounds);
  const auto number = magnitude(require_number(node, path, expected));
  if (number.empty() || !(is_digit(number[0]) || number[0] == '.') || has_leading_zero(number) ||
      number.find_first_not_of("0123456789.eE+-") != std::string_view::npos) {
    fail_at(path,
            node,
            text("expected ", expected, ", got ", described(node), number_hint(node.scalar)));
  }
  const auto value = parsed<double>(node, path, expected);
  check_bounds(value, node, path, bounds);
  check_size(value, node, path, bounds);
  return value;
}

bool read_bool(const ConfigNode& node, const std::string& path) {
  const bool is_plain = node.kind == ConfigNode::Kind::kScalar && !node.quoted;
  if (is_plain && (node.scalar == "true" || node.scalar == "false")) {
    return node.scalar == "true";
  }
  fail_at(path, node, "expected true or false, got " + described(node));
}

std::string read_text(const ConfigNode& node, const std::string& path) {
  if (node.kind != ConfigNode::Kind::kScalar) {
    fail_at(path,
            node,
            text("expected text, got ",
                 described(node),
                 node.kind == ConfigNode::Kind::kNull ? " (write '' for empty text)"
                 : node.kind == ConfigNode::Kind::kMapping
                     ? "; text that holds ': ' needs quotes"
                     : "; text that begins with '- ' or '[' needs quotes"));
  }
  if (const auto character = forbidden_character(node.scalar); !character.empty()) {
    fail_at(path,
            node,
            text("expected one line of text, got ",
                 described(ConfigNode::text(node.scalar)),
                 ", which holds ",
                 character));
  }
  return node.scalar;
}

std::size_t read_choice(const ConfigNode& node,
                        const std::string& path,
                        const std::vector<std::string>& names) {
  const auto found = std::find(names.begin(), names.end(), node.scalar);
  if (node.kind != ConfigNode::Kind::kScalar || found == names.end()) {
    fail_at(path, node, text("expected one of ", joined(names), ", got ", described(node)));
  }
  return static_cast<std::size_t>(found - names.begin());
}

void require_list(const ConfigNode& node, const std::string& path) {
  if (node.kind != ConfigNode::Kind::kSequence) {
    fail_at(path, node, text("expected a list, e.g. [a, b], got ", described(node)));
  }
}

void require_known_keys(const ConfigNode& node,
                        const std::string& path,
                        const std::vector<std::string>& keys,
                        const std::vector<std::string>& former_keys) {
  if (node.kind != ConfigNode::Kind::kMapping) {
    fail_at(path,
            node,
            text("expected a mapping with keys from ", joined(keys), "; got ", described(node)));
  }
  for (const auto& [key, value] : node.entries) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end() ||
        std::find(former_keys.begin(), former_keys.end(), key) != former_keys.end()) {
      continue;
    }
    const auto nearest = nearest_name(key, keys);
    fail_at(path.empty() ? key : path + "." + key,
            value,
            nearest.empty() ? "unknown key; known here: " + joined(keys)
                            : "unknown key; did you mean '" + nearest + "'?");
  }
}

const ConfigNode* find_key(const ConfigNode& mapping,
                           const std::string& path,
                           const std::string& key,
                           const FieldRules& rules) {
  const auto* node = mapping.find(key);
  const auto* former = rules.former_name == nullptr ? nullptr : mapping.find(rules.former_name);
  if (node != nullptr && former != nullptr) {
    fail_at((path.empty() ? "" : path + ".") + rules.former_name,
            *former,
            text("is the former name of ",
                 key,
                 ", which is there as well (",
                 node->place,
                 "); keep one of them"));
  }
  return node != nullptr ? node : former;
}

std::string real_text(double value) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
  return {buffer.data(), end};
}

std::string joined(const std::vector<std::string>& words, const std::string& separator) {
  std::string result;
  for (const auto& word : words) {
    result += (result.empty() ? "" : separator) + word;
  }
  return result;
}

}  // namespace braid
