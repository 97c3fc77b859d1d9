#include "core/config_tree.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "core/error.h"

namespace braid {
namespace {

std::string position(const std::string& source, const YAML::Mark& mark) {
  return text(source, ":", mark.line + 1, ":", mark.column + 1);
}

class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const std::string& source) : source_(source) {}

  ConfigNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(started(mark, "", anchor, ConfigNode::Kind::kNull), mark);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(position(source_, mark),
         ": YAML aliases (*name) are not supported; write the value again");
  }

  void OnScalar(const YAML::Mark& mark,
                const std::string& tag,
                YAML::anchor_t anchor,
                const std::string& value) override {
    auto node = started(mark, tag, anchor, ConfigNode::Kind::kScalar);
    node.scalar = value;
    node.quoted = tag == "!";
    add(std::move(node), mark);
  }

  void OnSequenceStart(const YAML::Mark& mark,
                       const std::string& tag,
                       YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open_.push_back({started(mark, tag, anchor, ConfigNode::Kind::kSequence), mark});
  }

  void OnMapStart(const YAML::Mark& mark,
                  const std::string& tag,
                  YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open_.push_back({started(mark, tag, anchor, ConfigNode::Kind::kMapping), mark});
  }

  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  // The last entry of a mapping waits for its value while has_key is set.
  struct Open {
    ConfigNode node;
    YAML::Mark mark;
    bool has_key = false;
  };

  ConfigNode started(const YAML::Mark& mark,
                     const std::string& tag,
                     YAML::anchor_t anchor,
                     ConfigNode::Kind kind) {
    if (anchor != YAML::NullAnchor) {
      fail(position(source_, mark),
           ": YAML anchors (&name) are not supported; write the value out");
    }
    if (!tag.empty() && tag != "?" && tag != "!") {  // "!" is how the parser marks quotes
      fail(position(source_, mark), ": YAML tags ('", tag, "') are not supported; remove it");
    }
    ConfigNode node;
    node.kind = kind;
    node.place = text(source_, ":", mark.line + 1);
    return node;
  }

  void close() {
    auto done = std::move(open_.back());
    open_.pop_back();
    add(std::move(done.node), done.mark);
  }

  void add(ConfigNode node, const YAML::Mark& mark) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    auto& [parent, unused, has_key] = open_.back();
    if (parent.kind == ConfigNode::Kind::kSequence) {
      parent.items.push_back(std::move(node));
    } else if (has_key) {
      auto& value = parent.entries.back().second;
      node.place = value.place;
      value = std::move(node);
      has_key = false;
    } else {
      add_key(parent, node, mark);
      has_key = true;
    }
  }

  void add_key(ConfigNode& parent, const ConfigNode& key, const YAML::Mark& mark) {
    if (key.kind != ConfigNode::Kind::kScalar) {
      fail(position(source_, mark), ": a key must be a word, not ", described(key));
    }
    if (const auto* first = parent.find(key.scalar)) {
      fail(position(source_, mark),
           ": duplicate key '",
           key.scalar,
           "', already given at ",
           first->place,
           "; keep one of them");
    }
    ConfigNode value;
    value.place = key.place;
    parent.entries.emplace_back(key.scalar, std::move(value));
  }

  const std::string& source_;
  ConfigNode root_;
  std::vector<Open> open_;
};

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

ConfigNode parse_yaml(std::string_view yaml, const std::string& source) {
  TreeBuilder builder(source);
  try {
    std::istringstream stream{std::string(yaml)};
    YAML::Parser parser(stream);
    if (parser.HandleNextDocument(builder)) {
      auto root = builder.take_root();
      require(!parser.HandleNextDocument(builder),
              source,
              ": holds more than one YAML document (a line '---'); keep one");
      return root;
    }
  } catch (const YAML::Exception& error) {
    fail(position(source, error.mark), ": broken YAML: ", error.msg);
  }
  ConfigNode nothing;
  nothing.place = source;
  return nothing;
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
