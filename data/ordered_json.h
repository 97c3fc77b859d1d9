#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace braid {

/// JSON that keeps the order of keys and prints as Python's json.dumps(..., ensure_ascii=False):
/// what chat prompts hold of tools and arguments.
struct OrderedJson {
  enum class Kind { kNull, kBoolean, kNumber, kString, kList, kObject };
  using Member = std::pair<std::string, OrderedJson>;

  Kind kind = Kind::kNull;
  std::string text = {};                ///< of a string; of a number or boolean as it is printed
  std::vector<OrderedJson> items = {};  ///< of a list
  std::vector<Member> members = {};     ///< of an object; of a key that comes twice the last value

  bool operator==(const OrderedJson&) const;

  static OrderedJson string(std::string value) { return {Kind::kString, std::move(value), {}, {}}; }

  /// The value under a key of an object; nullptr where there is none.
  const OrderedJson* find(std::string_view key) const;
};

/// "a string", "null", "an object", ..., for messages.
const char* kind_name(const OrderedJson& value);

/// A number as it is written, else kind_name().
std::string described(const OrderedJson& value);

/// Throws Error "is not valid JSON at byte ..." for anything else, nesting deeper than 100
/// included.
OrderedJson parse_ordered_json(std::string_view json);

/// ", " and ": " between the parts; numbers as Python prints what it reads: whole ones exactly,
/// others as the shortest decimal that reads back, with an exponent below 1e-4 and from 1e16 on.
std::string python_json(const OrderedJson& value);

/// A number as Python prints it.
std::string python_number(double value);

}  // namespace braid
