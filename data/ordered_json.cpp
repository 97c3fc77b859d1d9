#include "data/ordered_json.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace braid {
namespace {

constexpr std::size_t kDeepest = 100;

/// Builds the tree as nlohmann's reader meets the values.
class OrderedJsonBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  using Kind = OrderedJson::Kind;

  OrderedJson take() { return std::move(root_); }

  bool null() override { return add({Kind::kNull, "null", {}, {}}); }
  bool boolean(bool value) override {
    return add({Kind::kBoolean, value ? "true" : "false", {}, {}});
  }
  bool number_integer(number_integer_t value) override {
    return add({Kind::kNumber, std::to_string(value), {}, {}});
  }
  bool number_unsigned(number_unsigned_t value) override {
    return add({Kind::kNumber, std::to_string(value), {}, {}});
  }
  bool number_float(number_float_t value, const string_t& spelling) override {
    // A whole number that does not fit 64 bits comes here too.
    const bool whole = spelling.find_first_of(".eE") == std::string::npos;
    return add({Kind::kNumber, whole ? spelling : python_number(value), {}, {}});
  }
  bool string(string_t& value) override { return add(OrderedJson::string(std::move(value))); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open({Kind::kObject, {}, {}, {}}); }
  bool start_array(std::size_t) override { return open({Kind::kList, {}, {}, {}}); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    keys_.back() = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position,
                   const std::string&,
                   const nlohmann::detail::exception&) override {
    fail("is not valid JSON at byte ", position);
  }

 private:
  // Where the value goes; its address holds until the container around it is closed.
  OrderedJson& place(OrderedJson value) {
    if (open_.empty()) {
      return root_ = std::move(value);
    }
    OrderedJson& parent = *open_.back();
    if (parent.kind == Kind::kList) {
      return parent.items.emplace_back(std::move(value));
    }
    for (auto& [name, member] : parent.members) {
      if (name == keys_.back()) {
        return member = std::move(value);
      }
    }
    return parent.members.emplace_back(keys_.back(), std::move(value)).second;
  }

  bool add(OrderedJson value) {
    place(std::move(value));
    return true;
  }

  bool open(OrderedJson value) {
    require(open_.size() < kDeepest, "is nested deeper than ", kDeepest, " levels");
    open_.push_back(&place(std::move(value)));
    keys_.emplace_back();
    return true;
  }

  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  OrderedJson root_;
  std::vector<OrderedJson*> open_;
  std::vector<std::string> keys_;  // by depth: the key that was read last
};

void append_string(std::string& result, std::string_view value) {
  constexpr const char* kDigits = "0123456789abcdef";
  result += '"';
  for (const char c : value) {
    switch (c) {
      case '"':
        result += "\\\"";
        break;
      case '\\':
        result += "\\\\";
        break;
      case '\n':
        result += "\\n";
        break;
      case '\r':
        result += "\\r";
        break;
      case '\t':
        result += "\\t";
        break;
      case '\b':
        result += "\\b";
        break;
      case '\f':
        result += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          result += "\\u00";
          result += kDigits[c >> 4];
          result += kDigits[c & 15];
        } else {
          result += c;
        }
    }
  }
  result += '"';
}

void append_json(std::string& result, const OrderedJson& value) {
  switch (value.kind) {
    case OrderedJson::Kind::kString:
      append_string(result, value.text);
      break;
    case OrderedJson::Kind::kList: {
      const char* separator = "[";
      for (const OrderedJson& item : value.items) {
        result += separator;
        append_json(result, item);
        separator = ", ";
      }
      result += value.items.empty() ? "[]" : "]";
      break;
    }
    case OrderedJson::Kind::kObject: {
      const char* separator = "{";
      for (const auto& [name, member] : value.members) {
        result += separator;
        append_string(result, name);
        result += ": ";
        append_json(result, member);
        separator = ", ";
      }
      result += value.members.empty() ? "{}" : "}";
      break;
    }
    case OrderedJson::Kind::kNull:
      result += "null";
      break;
    default:
      result += value.text;
  }
}

}  // namespace

bool OrderedJson::operator==(const OrderedJson& other) const {
  return kind == other.kind && text == other.text && items == other.items &&
         members == other.members;
}

const OrderedJson* OrderedJson::find(std::string_view key) const {
  for (const auto& [name, member] : members) {
    if (name == key) {
      return &member;
    }
  }
  return nullptr;
}

const char* kind_name(const OrderedJson& value) {
  constexpr std::array kNames = {
      "null", "a boolean", "a number", "a string", "a list", "an object"};
  return kNames[static_cast<std::size_t>(value.kind)];
}

std::string described(const OrderedJson& value) {
  return value.kind == OrderedJson::Kind::kNumber ? value.text : kind_name(value);
}

OrderedJson parse_ordered_json(std::string_view json) {
  OrderedJsonBuilder builder;
  nlohmann::json::sax_parse(json.begin(), json.end(), &builder);
  return builder.take();
}

std::string python_json(const OrderedJson& value) {
  std::string result;
  append_json(result, value);
  return result;
}

std::string python_number(double value) {
  if (!std::isfinite(value)) {
    return std::isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity";
  }
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view shortest(buffer, static_cast<std::size_t>(end - buffer));
  const auto e = shortest.find('e');
  int exponent = 0;
  const std::string_view power = shortest.substr(e + (shortest[e + 1] == '+' ? 2 : 1));
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  if (exponent < -4 || exponent >= 16) {
    return std::string(shortest);
  }
  const auto fixed =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed).ptr;
  std::string result(buffer, fixed);
  if (result.find('.') == std::string::npos) {
    result += ".0";
  }
  return result;
}

}  // namespace braid
