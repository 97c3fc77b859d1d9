#include "inference/chat_session.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/interruption.h"
#include "core/random.h"
#include "data/chat_render.h"

namespace braid {

ChatSession::ChatSession(const Transformer& model,
                         const Tokenizer& tokenizer,
                         ChatSettings settings)
    : model_(model), tokenizer_(tokenizer), settings_(std::move(settings)), reader_(model) {
  require_valid(settings_.sampling);
}

void ChatSession::set_tools(const OrderedJson& tools) {
  const OrderedJson nothing{.kind = OrderedJson::Kind::kList};
  const auto declared = chat_messages(nothing, &tools);
  system_.tools = declared.empty() ? std::vector<std::string>() : declared.front().tools;
  tools_ = tools.items;
}

void ChatSession::reset() {
  turns_.clear();
  answered_ = 0;
}

void ChatSession::say(const std::string& text) {
  turns_.push_back({.role = ChatRole::kUser, .content = text});
}

void ChatSession::give_result(const std::string& text) {
  require(open_calls() > 0, "no call of the last answer waits for a result");
  const auto& calls = turns_[answered_ - 1].tool_calls;
  const auto& call = calls[calls.size() - open_calls()];
  turns_.push_back({.role = ChatRole::kTool, .content = text, .tool_call_id = call.id});
}

std::size_t ChatSession::open_calls() const {
  if (answered_ == 0) {
    return 0;
  }
  const auto results =
      std::count_if(turns_.begin() + static_cast<std::ptrdiff_t>(answered_),
                    turns_.end(),
                    [](const ChatMessage& turn) { return turn.role == ChatRole::kTool; });
  return turns_[answered_ - 1].tool_calls.size() - static_cast<std::size_t>(results);
}

std::vector<ChatMessage> ChatSession::messages() const {
  std::vector<ChatMessage> result;
  if (!system_.content.empty() || !system_.tools.empty()) {
    result.push_back(system_);
  }
  result.insert(result.end(), turns_.begin(), turns_.end());
  return result;
}

ChatOptions ChatSession::options() const {
  const bool has_reasoning = std::any_of(
      turns_.begin(), turns_.end(), [](const auto& turn) { return !turn.reasoning.empty(); });
  const bool thinks = settings_.thinking == Thinking::kOn ||
                      (settings_.thinking == Thinking::kAuto && has_reasoning);
  ChatOptions options = settings_.format;
  options.mode = thinks ? ChatMode::kThinking : ChatMode::kChat;
  return options;
}

std::vector<int64_t> ChatSession::prompt_ids() const {
  auto ids = RenderedChat(messages(), options()).encode(tokenizer_).ids;
  const auto longest = model_.config().max_position_embeddings;
  require(static_cast<int64_t>(ids.size()) < longest,
          "the conversation has ",
          ids.size(),
          " tokens, and the model reads at most ",
          longest,
          " (max_position_embeddings) with the answer; begin a new one (/reset), or say less");
  return ids;
}

ChatReply ChatSession::reply(const ChatVisitor& visitor) {
  const int64_t before = reader_.given_up();
  try {
    require(turns_.size() > answered_, "nothing was said since the last answer");
    ChatReply result = draw(prompt_ids(), options().mode, visitor);
    keep(result.answer);
    result.given_up = reader_.given_up() - before;
    return result;
  } catch (...) {
    turns_.resize(answered_);
    throw;
  }
}

ChatReply ChatSession::draw(std::vector<int64_t> ids, ChatMode mode, const ChatVisitor& visitor) {
  const auto key = random_key(settings_.seed, text("chat answer ", answers_));
  const auto longest = model_.config().max_position_embeddings;
  ChatReply result;
  std::string said;
  auto logits_V = reader_.logits_V(ids);
  visitor.begin(mode == ChatMode::kThinking);
  for (;; ++result.tokens) {
    if (result.tokens == settings_.max_tokens) {
      result.end = ChatEnd::kMaxTokens;
      break;
    }
    const double u = random_uniform(key, static_cast<uint64_t>(result.tokens));
    const int64_t id = drawn_id(sampling_probabilities(logits_V, settings_.sampling), u);
    if (id == tokenizer_.end_id()) {
      break;
    }
    require(id < tokenizer_.vocab_size(),
            "the model drew the id ",
            id,
            ", which its tokenizer ",
            tokenizer_.name(),
            " of ",
            tokenizer_.vocab_size(),
            " ids does not have");
    const auto bytes = tokenizer_.decode({id}, SpecialTokens::kSpell);
    said += bytes;
    visitor.token(bytes);
    ids.push_back(id);
    if (interruption() != 0 || static_cast<int64_t>(ids.size()) == longest) {
      ++result.tokens;
      result.end = interruption() != 0 ? ChatEnd::kInterrupted : ChatEnd::kContextFull;
      break;
    }
    logits_V = reader_.logits_V(ids);
  }
  result.answer = parse_answer(said, mode, AnswerForm::kLenient, tools_);
  return result;
}

void ChatSession::keep(const ChatAnswer& answer) {
  ChatMessage message{.role = ChatRole::kAssistant,
                      .content = answer.content,
                      .reasoning = answer.reasoning,
                      .tool_calls = answer.tool_calls};
  for (std::size_t i = 0; i < message.tool_calls.size(); ++i) {
    message.tool_calls[i].id = text("call-", answers_, "-", i);
  }
  turns_.push_back(std::move(message));
  answered_ = turns_.size();
  ++answers_;
}

}  // namespace braid
