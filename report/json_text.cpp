#include "report/json_text.h"

#include <array>
#include <cmath>
#include <cstdio>

#include <nlohmann/json.hpp>

namespace braid {

std::string json_string(std::string_view text) {
  const auto quoted = nlohmann::json(std::string(text))
                          .dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  std::string result;
  for (const char c : quoted) {
    switch (c) {
      case '<':
        result += "\\u003c";
        break;
      case '>':
        result += "\\u003e";
        break;
      case '&':
        result += "\\u0026";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string json_number(double value, int digits) {
  if (!std::isfinite(value)) {
    return "null";
  }
  std::array<char, 40> buffer{};
  // A whole number is shorter than its exponent form: 1234570 than 1.23457e+06.
  const bool is_whole = value == std::floor(value) && std::abs(value) < 1e9;
  value += 0.0;  // no "-0"
  if (is_whole) {
    std::snprintf(buffer.data(), buffer.size(), "%.0f", value);
  } else {
    std::snprintf(buffer.data(), buffer.size(), "%.*g", digits, value);
  }
  return buffer.data();
}

std::string json_numbers(const std::vector<double>& values, int digits) {
  std::vector<std::string> items;
  items.reserve(values.size());
  for (const double value : values) {
    items.push_back(json_number(value, digits));
  }
  return json_list(items);
}

std::string json_bool(bool value) {
  return value ? "true" : "false";
}

std::string json_object(const std::vector<std::pair<std::string_view, std::string>>& members) {
  std::string result = "{";
  for (const auto& [key, value] : members) {
    result += result.size() > 1 ? "," : "";
    result += json_string(key);
    result += ":";
    result += value;
  }
  return result + "}";
}

std::string json_list(const std::vector<std::string>& items) {
  std::string result = "[";
  for (const auto& item : items) {
    result += result.size() > 1 ? "," : "";
    result += item;
  }
  return result + "]";
}

}  // namespace braid
