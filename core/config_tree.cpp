#include "core/config_tree.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>

namespace braid {
namespace {

// Plain scalars that YAML readers take for something other than text.
bool needs_quotes(const std::string& scalar) {
  static constexpr std::array kWords = {
      "true", "false", "null", "yes", "no", "on", "off", "y", "n"};
  std::string lower = scalar;
  for (char& c : lower) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  const auto is_safe = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '/' || c == '.' || c == '-';
  };
  return scalar.empty() ||
         !(std::isalpha(static_cast<unsigned char>(scalar[0])) || scalar[0] == '/') ||
         !std::all_of(scalar.begin(), scalar.end(), is_safe) ||
         std::find(kWords.begin(), kWords.end(), lower) != kWords.end();
}

std::string quoted_text(const std::string& scalar) {
  std::string result = "\"";
  for (const char c : scalar) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (code < 0x20 || code == 0x7f) {
      char escape[5];
      std::snprintf(escape, sizeof escape, "\\x%02x", code);
      result += escape;
    } else {
      result += c;
    }
  }
  return result + "\"";
}

bool is_block(const ConfigNode& node) {
  const bool has_inner_mapping = std::any_of(node.items.begin(), node.items.end(), is_block);
  return !node.entries.empty() || has_inner_mapping;
}

// Writes lists of scalars on one line and everything else as indented blocks.
void write_block(const ConfigNode& node, const std::string& indent, std::string& out) {
  for (const auto& [key, value] : node.entries) {
    out += indent + key + (is_block(value) ? ":\n" : ": " + inline_yaml_text(value) + "\n");
    write_block(value, indent + "  ", out);
  }
  for (const auto& item : node.items) {
    if (!is_block(node)) {
      return;
    }
    std::string block = inline_yaml_text(item) + "\n";
    if (is_block(item)) {
      block.clear();
      write_block(item, indent + "  ", block);
      block.erase(0, indent.size() + 2);
    }
    out += indent + "- " + block;
  }
}

}  // namespace

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) {
      return &value;
    }
  }
  return nullptr;
}

ConfigNode ConfigNode::plain(std::string scalar) {
  ConfigNode node;
  node.kind = Kind::kScalar;
  node.scalar = std::move(scalar);
  return node;
}

ConfigNode ConfigNode::text(std::string scalar) {
  auto node = plain(std::move(scalar));
  node.quoted = needs_quotes(node.scalar);
  return node;
}

ConfigNode ConfigNode::sequence(std::vector<ConfigNode> items) {
  ConfigNode node;
  node.kind = Kind::kSequence;
  node.items = std::move(items);
  return node;
}

ConfigNode ConfigNode::mapping(std::vector<Entry> entries) {
  ConfigNode node;
  node.kind = Kind::kMapping;
  node.entries = std::move(entries);
  return node;
}

std::string described(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::kNull:
      return "nothing";
    case ConfigNode::Kind::kScalar:
      return inline_yaml_text(node.quoted ? node : ConfigNode::plain("'" + node.scalar + "'"));
    case ConfigNode::Kind::kSequence:
      return "a list";
    case ConfigNode::Kind::kMapping:
      break;
  }
  return "a mapping";
}

std::string inline_yaml_text(const ConfigNode& node) {
  std::string result;
  const auto separator = [&result] { return result.empty() ? "" : ", "; };
  switch (node.kind) {
    case ConfigNode::Kind::kNull:
      return "null";
    case ConfigNode::Kind::kScalar:
      return node.quoted ? quoted_text(node.scalar) : node.scalar;
    case ConfigNode::Kind::kSequence:
      for (const auto& item : node.items) {
        result += separator() + inline_yaml_text(item);
      }
      return "[" + result + "]";
    case ConfigNode::Kind::kMapping:
      break;
  }
  for (const auto& [key, value] : node.entries) {
    result += separator() + key + ": " + inline_yaml_text(value);
  }
  return "{" + result + "}";
}

std::string yaml_text(const ConfigNode& node) {
  std::string result;
  write_block(node, "", result);
  return result;
}

}  // namespace braid
