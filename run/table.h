#pragma once
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace braid {

/// A command's result as text for people; --json prints the same object as JSON. One line per
/// value, a table per list of objects. Values of keys that end in "bytes" are shown in KiB, MiB,
/// ..., those of keys that end in "flops" with K, M, G, ... (powers of 1000).
std::string readable(const nlohmann::ordered_json& object);

/// The same object as JSON on one line: keys without spaces and signs ("memory, estimated" becomes
/// memory_estimated), and U+FFFD for bytes of paths that are no UTF-8.
std::string json_text(const nlohmann::ordered_json& object);

/// "1.50 M" for 1500000 (powers of 1000).
std::string scaled_text(double value);

/// A table for people: columns as wide as their widest cell; those whose title begins with '>'
/// (which is not shown) have their cells at the right.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> titles);
  void add(std::vector<std::string> row);
  std::string text(const std::string& indent = "") const;

 private:
  std::vector<std::vector<std::string>> lines_;
  std::vector<bool> right_;
};

}  // namespace braid
