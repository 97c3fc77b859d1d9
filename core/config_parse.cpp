#include <algorithm>
#include <sstream>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "core/config_tree.h"
#include "core/error.h"
#include "core/utf8.h"

namespace braid {
namespace {

std::string position(const std::string& source, const YAML::Mark& mark) {
  return text(source, ":", mark.line + 1, ":", mark.column + 1);
}

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view yaml, const std::string& source) : yaml_(yaml), source_(source) {
    root_.place = source;
  }

  ConfigNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    require(
        !std::exchange(has_document_, true),
        position(source_, mark),
        ": text after the end of the YAML document; expected one document of 'key: value' lines");
  }
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
    if (node.quoted) {
      require_closed(mark);
    }
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

  // yaml-cpp ends an open quote silently where the file ends, and so swallows every key below it.
  void require_closed(const YAML::Mark& mark) const {
    auto at = static_cast<std::size_t>(mark.pos);
    const char quote = at < yaml_.size() ? yaml_[at] : '\0';
    if (quote != '"' && quote != '\'') {
      return;  // a block scalar
    }
    for (++at; at < yaml_.size(); ++at) {
      if (quote == '"' && yaml_[at] == '\\') {
        ++at;
      } else if (yaml_[at] == quote && yaml_.substr(at, 2) == "''") {
        ++at;
      } else if (yaml_[at] == quote) {
        return;
      }
    }
    fail(position(source_, mark), ": this quote (", quote, ") is never closed");
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
      auto& value = parent.entries.back().value;
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
    parent.entries.push_back({key.scalar, std::move(value)});
  }

  std::string_view yaml_;
  const std::string& source_;
  bool has_document_ = false;
  ConfigNode root_;
  std::vector<Open> open_;
};

// Where the YAML stops being UTF-8, as a line number; 0 = nowhere. yaml-cpp would put U+FFFD there.
std::size_t line_without_utf8(std::string_view yaml) {
  std::size_t line = 1;
  while (!yaml.empty()) {
    const auto [length, fitting] = utf8_sequence_at(yaml);
    if (length == 0 || fitting < length) {
      return line;
    }
    line += yaml[0] == '\n';
    yaml.remove_prefix(length);
  }
  return 0;
}

// What is wrong at that place, in our words: what yaml-cpp says is about its grammar.
std::string broken_yaml(const YAML::Exception& error, std::string_view yaml) {
  const auto at = static_cast<std::size_t>(std::max(0, error.mark.pos));
  const char here = at < yaml.size() ? yaml[at] : '\0';
  const auto line_begin = at == 0 ? 0 : yaml.rfind('\n', std::min(at, yaml.size()) - 1) + 1;
  const auto indentation =
      yaml.substr(line_begin, yaml.find_first_not_of(" \t", line_begin) - line_begin);
  const std::string said = error.msg;
  const auto says = [&said](const char* words) { return said.find(words) != std::string::npos; };
  if (indentation.find('\t') != std::string_view::npos) {
    return "a tab in the indentation; indent with spaces";
  }
  if (here == '@' || here == '`' || here == '%') {
    return text("no text begins with '", here, "' in YAML; put it in quotes");
  }
  if (here == '*' || says("anchor is not defined")) {
    return "'*' begins a YAML alias, which is not supported; put text that begins with it in "
           "quotes";
  }
  if (says("bad file")) {
    return "lists or mappings are nested too deeply";
  }
  if (says("EOF in scalar")) {
    return "a quote is never closed";
  }
  if (says("escape")) {
    return "in double quotes a backslash begins an escape, and this is none; double it, or use "
           "single quotes";
  }
  if (says("flow not found") || says("flow end")) {
    return "a '{' or '[' is not closed, or a ',' is missing between its entries";
  }
  if (says("illegal map value")) {
    return "a ':' where no key can end; begin a new line for the key, or put the text in quotes";
  }
  if (says("end of map not found") || says("end of sequence not found")) {
    return "this line does not fit the lines above it; check its indentation, and that it is "
           "'key: value'";
  }
  return "expected 'key: value' lines, lists '- item' or '[a, b]', and text in quotes where it "
         "holds other signs";
}

}  // namespace

ConfigNode parse_yaml(std::string_view yaml, const std::string& source) {
  require(yaml.find('\0') == std::string_view::npos,
          source,
          ": is not UTF-8 text (it holds NUL bytes)");
  if (yaml.starts_with("\xEF\xBB\xBF")) {
    yaml.remove_prefix(3);
  }
  if (const auto line = line_without_utf8(yaml); line > 0) {
    fail(source, ":", line, ": is not UTF-8 text; save the file as UTF-8");
  }
  TreeBuilder builder(yaml, source);
  try {
    std::istringstream stream{std::string(yaml)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    fail(position(source, error.mark), ": broken YAML: ", broken_yaml(error, yaml));
  }
  return builder.take_root();
}

}  // namespace braid
