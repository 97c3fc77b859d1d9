#pragma once
#include <string>
#include <string_view>

#include "data/chat_answer.h"
#include "inference/generated_text.h"

namespace braid {

/// Prints an answer on standard output while it grows. Reasoning is dim on a terminal and between
/// <think> and </think> elsewhere; calls appear parsed once the answer is whole.
class ChatPrinter {
 public:
  explicit ChatPrinter(bool terminal);

  void begin(bool thinks);
  /// The bytes of the next token, special tokens spelled out.
  void add(std::string_view bytes);
  void finish(const ChatAnswer& answer);
  /// Ends an answer that failed; nothing where none has begun.
  void abandon();

 private:
  enum class Part { kReasoning, kContent, kCalls };

  void enter(Part part);
  void leave();

  bool terminal_, open_ = false;
  Part part_ = Part::kContent;
  GeneratedText text_;  // of the part
  std::string said_;    // all bytes of the part
};

}  // namespace braid
