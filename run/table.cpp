#include "run/table.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <utility>
#include <vector>

#include "core/error.h"
#include "run/memory.h"

namespace braid {
namespace {

using nlohmann::ordered_json;

std::string formatted(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
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
    return bytes_text(value.get<double>());
  }
  if (value.is_number() && key.ends_with("flops")) {
    return scaled_text(value.get<double>());
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

// "of a step, on the busiest rank" becomes of_a_step_on_the_busiest_rank.
std::string plain_key(const std::string& key) {
  std::string result;
  for (const char c : key) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' ||
                       static_cast<unsigned char>(c) >= 0x80;
    if (plain) {
      result += c;
    } else if (!result.empty() && result.back() != '_') {
      result += '_';
    }
  }
  return result;
}

ordered_json with_plain_keys(const ordered_json& value) {
  if (!value.is_structured()) {
    return value;
  }
  auto result = value.is_array() ? ordered_json::array() : ordered_json::object();
  for (const auto& [key, inner] : value.items()) {
    value.is_array() ? result.push_back(with_plain_keys(inner))
                     : void(result[plain_key(key)] = with_plain_keys(inner));
  }
  return result;
}

bool is_table(const ordered_json& value) {
  return value.is_array() && !value.empty() && value.front().is_object();
}

// The columns are the first row's keys.
std::string table(const ordered_json& rows, const std::string& indent) {
  std::vector<std::string> titles;
  for (const auto& [key, first] : rows.front().items()) {
    titles.push_back(text(first.is_number() ? ">" : "", label(key)));
  }
  TextTable result(titles);
  for (const auto& row : rows) {
    std::vector<std::string> cells;
    for (const auto& [key, first] : rows.front().items()) {
      cells.push_back(row.contains(key) ? value_text(key, row.at(key)) : "");
    }
    result.add(cells);
  }
  return result.text(indent);
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

std::string scaled_text(double value) {
  constexpr const char* kPrefixes = "\0KMGTPEZY";
  int prefix = 0;
  for (; value >= 1000 && prefix < 8; ++prefix) {
    value /= 1000;
  }
  if (prefix == 0) {
    return formatted("%.0f", value);
  }
  return formatted(value < 10    ? "%.2f "
                   : value < 100 ? "%.1f "
                                 : "%.0f ",
                   value) +
         kPrefixes[prefix];
}

std::string readable(const ordered_json& object) {
  return lines_of(object, "");
}

std::string json_text(const ordered_json& object) {
  return with_plain_keys(object).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

TextTable::TextTable(std::vector<std::string> titles) {
  for (auto& title : titles) {
    right_.push_back(title.starts_with('>'));
    title.erase(0, right_.back() ? 1 : 0);
  }
  lines_.push_back(std::move(titles));
}

void TextTable::add(std::vector<std::string> row) {
  require(row.size() == right_.size(), "[TextTable] a row of ", row.size(), " cells");
  lines_.push_back(std::move(row));
}

std::string TextTable::text(const std::string& indent) const {
  std::vector<std::size_t> widths(right_.size(), 0);
  for (const auto& line : lines_) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      widths[i] = std::max(widths[i], line[i].size());
    }
  }
  std::string result;
  for (const auto& line : lines_) {
    std::string row = indent;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string padding(widths[i] - line[i].size(), ' ');
      row += (i > 0 ? "  " : "") + (right_[i] ? padding + line[i] : line[i] + padding);
    }
    result += row.substr(0, row.find_last_not_of(' ') + 1) + "\n";
  }
  return result;
}

}  // namespace braid
