#pragma once
// A conversation with a model.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/chat.h"
#include "data/chat_answer.h"
#include "data/sample_rules.h"
#include "data/tokenizer.h"
#include "inference/incremental_reader.h"
#include "inference/sampling.h"

namespace braid {

struct ChatSettings {
  /// kAuto: on where an earlier answer of the conversation has reasoning, else off.
  Thinking thinking = Thinking::kAuto;
  ChatOptions format = {};  ///< its mode is not used
  Sampling sampling = {};
  uint64_t seed = 0;
  int64_t max_tokens = 1024;  ///< of an answer
};

enum class ChatEnd {
  kEndToken,     ///< the model ended its answer
  kMaxTokens,    ///< max_tokens were drawn
  kContextFull,  ///< the model reads no more
  kInterrupted,  ///< a signal asked to stop (core/interruption.h)
};

struct ChatReply {
  ChatAnswer answer;
  ChatEnd end = ChatEnd::kEndToken;
  int64_t tokens = 0;  ///< drawn, the end token not counted
  /// Ids that had been read and were given up before this answer: the template leaves earlier
  /// reasoning out, a setting changed, or the text of an answer has other ids than were drawn.
  int64_t given_up = 0;
};

struct ChatVisitor {
  /// Before an answer; whether it begins with reasoning.
  std::function<void(bool thinks)> begin;
  /// The bytes of each new token, special tokens spelled out, the end token excepted.
  std::function<void(std::string_view bytes)> token;
};

/// Keeps the messages and the decode state. Before every answer the whole conversation is rendered
/// as training data are (data/chat_render.h), and what of its ids the state has not read is
/// computed. The i-th draw of the n-th answer is a pure function of (seed, n, i).
class ChatSession {
 public:
  /// `model` and `tokenizer` must outlive the object.
  ChatSession(const Transformer& model, const Tokenizer& tokenizer, ChatSettings settings);

  ChatSettings& settings() { return settings_; }
  /// The system message; empty = none.
  void set_system(const std::string& text) { system_.content = text; }
  /// A JSON list of functions' schemas. Throws Error as chat_messages() does.
  void set_tools(const OrderedJson& tools);
  /// Forgets the messages, but not the system message and the tools.
  void reset();

  void say(const std::string& text);
  /// The result of the earliest call of the last answer that has none yet. Throws Error where there
  /// is no such call.
  void give_result(const std::string& text);
  /// Calls of the last answer without a result.
  std::size_t open_calls() const;

  /// The model's answer to what was said, which becomes part of the conversation. What was said
  /// since the last answer is taken back where this throws: Error where the context is full or the
  /// tokenizer lacks a special token, Interrupted where a signal came before the first token.
  ChatReply reply(const ChatVisitor& visitor);

  /// The system message, if there is one, and what followed.
  std::vector<ChatMessage> messages() const;
  /// What the next answer would be rendered with.
  ChatOptions options() const;
  /// What the state has read.
  const std::vector<int64_t>& read() const { return reader_.read(); }

 private:
  std::vector<int64_t> prompt_ids() const;
  ChatReply draw(std::vector<int64_t> ids, ChatMode mode, const ChatVisitor& visitor);
  void keep(const ChatAnswer& answer);

  const Transformer& model_;
  const Tokenizer& tokenizer_;
  ChatSettings settings_;
  ChatMessage system_{.role = ChatRole::kSystem};
  std::vector<OrderedJson> tools_;
  std::vector<ChatMessage> turns_;
  std::size_t answered_ = 0;  // of turns_
  int64_t answers_ = 0;       // given, in all
  IncrementalReader reader_;
};

}  // namespace braid
