#include <sstream>
#include <utility>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "core/config_tree.h"
#include "core/error.h"

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

}  // namespace

ConfigNode parse_yaml(std::string_view yaml, const std::string& source) {
  require(yaml.find('\0') == std::string_view::npos,
          source,
          ": is not UTF-8 text (it holds NUL bytes)");
  if (yaml.starts_with("\xEF\xBB\xBF")) {
    yaml.remove_prefix(3);
  }
  TreeBuilder builder(yaml, source);
  try {
    std::istringstream stream{std::string(yaml)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    fail(position(source, error.mark), ": broken YAML: ", error.msg);
  }
  return builder.take_root();
}

}  // namespace braid
