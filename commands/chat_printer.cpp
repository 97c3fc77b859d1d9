#include "commands/chat_printer.h"

#include <iostream>
#include <vector>

#include "data/ordered_json.h"
#include "data/v4_tokens.h"

namespace braid {
namespace {

constexpr const char* kDim = "\033[2m";
constexpr const char* kBrightAgain = "\033[0m\n";

// Where calls begin, with the empty line before them and without.
std::vector<std::string> beginnings_of_calls() {
  const auto calls = std::string("<") + v4_tokens::kDsml;
  return {"\n\n" + calls, calls};
}

}  // namespace

ChatPrinter::ChatPrinter(bool terminal) : terminal_(terminal), text_(beginnings_of_calls()) {}

void ChatPrinter::begin(bool thinks) {
  enter(thinks ? Part::kReasoning : Part::kContent);
}

void ChatPrinter::add(std::string_view bytes) {
  for (const char& byte : bytes) {
    if (part_ == Part::kCalls) {
      break;
    }
    said_ += byte;
    std::cout << text_.add({&byte, 1});
    if (text_.stopped()) {
      const bool thought = part_ == Part::kReasoning && said_.ends_with(v4_tokens::kEndThink);
      leave();
      enter(thought ? Part::kContent : Part::kCalls);
    }
  }
  std::cout << std::flush;
}

void ChatPrinter::abandon() {
  if (open_) {
    finish({});
  }
}

void ChatPrinter::finish(const ChatAnswer& answer) {
  leave();
  open_ = false;
  std::cout << "\n";
  for (const ToolCall& call : answer.tool_calls) {
    OrderedJson arguments{.kind = OrderedJson::Kind::kObject};
    arguments.members = call.arguments;
    std::cout << "call " << call.name << " " << python_json(arguments) << "\n";
  }
  std::cout << std::flush;
}

void ChatPrinter::enter(Part part) {
  part_ = part;
  open_ = true;
  said_.clear();
  auto ends = beginnings_of_calls();
  if (part == Part::kReasoning) {
    ends.emplace_back(v4_tokens::kEndThink);
    std::cout << (terminal_ ? kDim : v4_tokens::kThink);
  }
  text_ = GeneratedText(ends);
}

void ChatPrinter::leave() {
  std::cout << text_.finish();
  if (part_ == Part::kReasoning) {
    std::cout << (terminal_ ? kBrightAgain : v4_tokens::kEndThink);
  }
}

}  // namespace braid
