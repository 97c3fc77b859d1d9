#include "report/number_text.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace braid {
namespace {

std::string printed(const char* format, int digits, double value) {
  std::array<char, 64> buffer{};
  std::snprintf(buffer.data(), buffer.size(), format, digits, value);
  return buffer.data();
}

std::string without_trailing_zeros(std::string digits) {
  if (digits.find('.') != std::string::npos) {
    digits.erase(digits.find_last_not_of('0') + 1);
    if (digits.back() == '.') {
      digits.pop_back();
    }
  }
  return digits == "-0" ? "0" : digits;
}

// "3.4e15".
std::string scientific(double value, int digits) {
  const std::string number = printed("%.*e", digits - 1, value);
  const auto e = number.find('e');
  return without_trailing_zeros(number.substr(0, e)) + "e" +
         std::to_string(std::atoi(number.c_str() + e + 1));
}

std::string fixed(double value, int digits) {
  const int before_point = static_cast<int>(std::floor(std::log10(std::abs(value)))) + 1;
  return without_trailing_zeros(printed("%.*f", std::max(0, digits - before_point), value));
}

std::string plain(double value, int digits) {
  const double size = std::abs(value);
  return size >= 1e6 || size < 1e-4 ? scientific(value, digits) : fixed(value, digits);
}

std::string count(double value, int digits) {
  constexpr std::array kSuffixes = {"", "k", "M", "B", "T"};
  std::size_t suffix = 0;
  // 999.96 thousand, rounded, is a million.
  for (; suffix + 1 < kSuffixes.size() &&
         std::abs(std::strtod(printed("%.*g", digits, value).c_str(), nullptr)) >= 1000;
       ++suffix) {
    value /= 1000;
  }
  return plain(value, digits) + kSuffixes[suffix];
}

}  // namespace

std::string number_text(double value, NumberStyle style, int digits) {
  if (std::isnan(value)) {
    return "-";
  }
  if (std::isinf(value)) {
    return value > 0 ? "inf" : "-inf";
  }
  if (value == 0) {
    return style == NumberStyle::kPercent ? "0 %" : "0";
  }
  switch (style) {
    case NumberStyle::kPlain:
      return plain(value, digits);
    case NumberStyle::kCount:
      return count(value, digits);
    case NumberStyle::kPercent:
      return plain(100 * value, digits) + " %";
  }
  return "";
}

std::string fixed_text(double value, int decimals) {
  return std::isfinite(value) ? printed("%.*f", decimals, value) : number_text(value);
}

std::string signed_text(double value, int digits) {
  std::string result = value > 0 ? "+" : "";
  result += number_text(value, NumberStyle::kPlain, digits);
  return result;
}

}  // namespace braid
