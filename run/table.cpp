#include "run/table.h"

#include <algorithm>
#include <cstdio>
#include <vector>

namespace braid {
namespace {

using nlohmann::ordered_json;

std::string formatted(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

// "1.5 MiB" for 1572864 with step 1024 and units "KMGTPE", "iB".
std::string scaled(double value, double step, const std::string& unit) {
  constexpr const char* kPrefixes = "\0KMGTPEZY";
  int prefix = 0;
  for (; value >= step && prefix < 8; ++prefix) {
    value /= step;
  }
  if (prefix == 0) {
    return formatted("%.0f", value) + (step == 1024 ? " B" : "");
  }
  return formatted(value < 10    ? "%.2f "
                   : value < 100 ? "%.1f "
                                 : "%.0f ",
                   value) +
         kPrefixes[prefix] + unit;
}

std::string with_commas(std::string digits) {
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3;
       at > (digits.starts_with('-') ? 1 : 0);
       at -= 3) {
    digits.insert(static_cast<std::size_t>(at), 1, ',');
  }
  return digits;
}

std::string label(std::string key) {
  std::replace(key.begin(), key.end(), '_', ' ');
  return key;
}

std::string value_text(const std::string& key, const ordered_json& value) {
  if (value.is_number() && key.ends_with("bytes")) {
    return scaled(value.get<double>(), 1024, "iB");
  }
  if (value.is_number() && key.ends_with("flops")) {
    return scaled(value.get<double>(), 1000, "");
  }
  switch (value.type()) {
    case ordered_json::value_t::null:
      return "-";
    case ordered_json::value_t::boolean:
      return value.get<bool>() ? "yes" : "no";
    case ordered_json::value_t::string:
      return value.get<std::string>();
    case ordered_json::value_t::number_float:
      return formatted("%.6g", value.get<double>());
    case ordered_json::value_t::number_integer:
    case ordered_json::value_t::number_unsigned:
      return with_commas(value.dump());
    default:
      return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  }
}

bool is_table(const ordered_json& value) {
  return value.is_array() && !value.empty() && value.front().is_object();
}

// The columns are the first row's keys.
std::string table(const ordered_json& rows, const std::string& indent) {
  std::vector<std::vector<std::string>> lines(rows.size() + 1);
  std::vector<std::size_t> widths;
  std::vector<bool> right;
  for (const auto& [key, first] : rows.front().items()) {
    lines[0].push_back(label(key));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      lines[i + 1].push_back(rows[i].contains(key) ? value_text(key, rows[i].at(key)) : "");
    }
    std::size_t width = 0;
    for (const auto& line : lines) {
      width = std::max(width, line.back().size());
    }
    widths.push_back(width);
    right.push_back(first.is_number());
  }
  std::string result;
  for (const auto& line : lines) {
    std::string row = indent;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string padding(widths[i] - line[i].size(), ' ');
      row += (i > 0 ? "  " : "") + (right[i] ? padding + line[i] : line[i] + padding);
    }
    result += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
  }
  return result;
}

std::string lines_of(const ordered_json& object, const std::string& indent) {
  std::size_t width = 0;
  for (const auto& [key, value] : object.items()) {
    width = value.is_object() || is_table(value) ? width : std::max(width, key.size());
  }
  std::string result;
  for (const auto& [key, value] : object.items()) {
    if (is_table(value)) {
      result += indent + label(key) + "\n" + table(value, indent + "  ");
    } else if (value.is_object()) {
      result += indent + label(key) + "\n" + lines_of(value, indent + "  ");
    } else {
      result += indent + label(key) + std::string(width - key.size() + 2, ' ') +
                value_text(key, value) + "\n";
    }
  }
  return result;
}

}  // namespace

std::string readable(const ordered_json& object) {
  return lines_of(object, "");
}

}  // namespace braid
