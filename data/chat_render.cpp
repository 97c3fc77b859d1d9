#include "data/chat_render.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "core/error.h"
#include "data/v4_tokens.h"

namespace braid {
namespace {

using namespace v4_tokens;

constexpr const char* kEffortAbsolute =
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to "
    "resolve the root cause, rigorously stress-testing your logic against all potential paths, "
    "edge cases, and adversarial scenarios.\n"
    "Explicitly write out your entire deliberation process, documenting every intermediate step, "
    "considered alternative, and rejected hypothesis to ensure absolutely no assumption is left "
    "unchecked.\n\n";
constexpr const char* kEffortBeyond =
    "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n"
    "You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: "
    "exhaustively decompose the problem into its most fundamental components, trace every causal "
    "chain to its root, and resolve the underlying cause rather than any surface symptom.\n"
    "Do not stop reasoning until you have independently verified the solution from multiple angles "
    "and are certain that no assumption remains unchecked and no error remains undiscovered.\n\n";

constexpr const char* kToolsBefore =
    "\n\n## Tools\n\nYou have access to a set of tools to help answer the user's question. You can "
    "invoke tools by writing a \"<｜DSML｜tool_calls>\" block like the following:\n\n"
    "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"$TOOL_NAME\">\n"
    "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE"
    "</｜DSML｜parameter>\n...\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"$TOOL_NAME2\">\n...\n"
    "</｜DSML｜invoke>\n</｜DSML｜tool_calls>\n\n"
    "String parameters should be specified as is and set `string=\"true\"`. For all other types "
    "(numbers, booleans, arrays, objects), pass the value in JSON format and set "
    "`string=\"false\"`.\n\n"
    "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning "
    "inside <think>...</think> BEFORE any tool calls or final response.\n\n"
    "Otherwise, output directly after </think> with tool calls or final response.\n\n"
    "### Available Tool Schemas\n\n";
constexpr const char* kToolsAfter =
    "\n\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool "
    "calls.\n";
constexpr const char* kFormatBefore =
    "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n";

const char* task_token(ChatTask task) {
  constexpr std::array kTokens = {kAction, kQuery, kAuthority, kDomain, kTitle, kReadUrl};
  return kTokens[static_cast<std::size_t>(task)];
}

/// A message as it is rendered: tool results are parts of user messages.
struct ChatTurn {
  struct Part {
    std::string text;
    bool is_result = false;
    std::string call_id = {};
    ChatRole role = ChatRole::kUser;
    std::optional<float> weight = {};
  };
  ChatMessage message;
  std::vector<Part> parts = {};  // of a user message
  bool rendered = true;          // else context
};

bool is_question(const ChatTurn& turn) {
  return turn.message.role == ChatRole::kUser || turn.message.role == ChatRole::kDeveloper;
}

// Tool results and consecutive user messages join one user message, unless it carries a task.
void append_turn(std::vector<ChatTurn>& turns, const ChatMessage& message, bool rendered) {
  const bool is_tool = message.role == ChatRole::kTool;
  if (!is_tool && message.role != ChatRole::kUser) {
    turns.push_back({message, {}, rendered});
    return;
  }
  ChatTurn::Part part{message.content, is_tool, message.tool_call_id, message.role, message.weight};
  const bool joins = !turns.empty() && turns.back().message.role == ChatRole::kUser &&
                     turns.back().rendered == rendered && !turns.back().message.task;
  if (!joins) {
    turns.push_back({message, {}, rendered});
    turns.back().message.role = ChatRole::kUser;
  }
  if (message.task) {
    turns.back().message.task = message.task;
  }
  turns.back().parts.push_back(std::move(part));
}

// Results stand in the order of their calls; the places between other parts stay.
void sort_results(std::vector<ChatTurn>& turns) {
  std::map<std::string, std::size_t> order;
  for (ChatTurn& turn : turns) {
    if (!turn.message.tool_calls.empty() && turn.message.role == ChatRole::kAssistant) {
      order.clear();
      for (std::size_t i = 0; i < turn.message.tool_calls.size(); ++i) {
        if (const std::string& id = turn.message.tool_calls[i].id; !id.empty()) {
          order[id] = i;
        }
      }
    }
    std::vector<ChatTurn::Part> results;
    for (const auto& part : turn.parts) {
      if (part.is_result) {
        results.push_back(part);
      }
    }
    const auto position = [&order](const ChatTurn::Part& part) {
      const auto found = order.find(part.call_id);
      return found == order.end() ? 0 : found->second;
    };
    std::stable_sort(results.begin(), results.end(), [&](const auto& a, const auto& b) {
      return position(a) < position(b);
    });
    std::size_t next = 0;
    for (auto& part : turn.parts) {
      if (part.is_result) {
        part = results[next++];
      }
    }
  }
}

std::size_t last_question(const std::vector<ChatTurn>& turns) {
  std::size_t last = 0;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    last = is_question(turns[i]) ? i : last;
  }
  return last;
}

bool has_question(const std::vector<ChatTurn>& turns) {
  return std::any_of(turns.begin(), turns.end(), is_question);
}

/// Writes the turns as segments.
class ChatWriter {
 public:
  ChatWriter(std::vector<ChatTurn> turns, const ChatOptions& options)
      : turns_(std::move(turns)), options_(options) {
    const bool has_tools = std::any_of(turns_.begin(), turns_.end(), [](const ChatTurn& turn) {
      return !turn.message.tools.empty();
    });
    thinks_ = options.mode == ChatMode::kThinking;
    drops_ = thinks_ && options.drop_thinking && !has_tools;
    if (drops_) {
      leave_out_earlier_developers();
    }
    has_question_ = has_question(turns_);
    last_question_ = last_question(turns_);
    set_weights();
  }

  int64_t masked_messages() const { return masked_messages_; }

  std::vector<ChatSegment> write() {
    const bool has_context = !turns_.empty() && !turns_[0].rendered;
    if (options_.begin_token && !has_context) {
      special(kBegin);
    }
    if (!has_context) {
      effort();
    }
    for (std::size_t i = 0; i < turns_.size(); ++i) {
      if (turns_[i].rendered) {
        turn(i);
      }
    }
    return std::move(segments_);
  }

 private:
  void leave_out_earlier_developers() {
    const std::size_t last = last_question(turns_);
    std::vector<ChatTurn> kept;
    for (std::size_t i = 0; i < turns_.size(); ++i) {
      if (i >= last || turns_[i].message.role != ChatRole::kDeveloper) {
        kept.push_back(std::move(turns_[i]));
      }
    }
    turns_ = std::move(kept);
  }

  float weight_of(ChatRole role, const std::optional<float>& own) const {
    const auto& roles = options_.training.roles;
    return own.value_or(std::find(roles.begin(), roles.end(), role) != roles.end() ? 1.0f : 0.0f);
  }

  // Of the turns' texts and of their end tokens.
  void set_weights() {
    const ChatTraining& training = options_.training;
    std::optional<std::size_t> last_answer, last_trained;
    for (std::size_t i = 0; i < turns_.size(); ++i) {
      const ChatMessage& message = turns_[i].message;
      const bool is_answer = message.role == ChatRole::kAssistant;
      const bool is_rewritten = is_answer && drops_ && has_question_ && i < last_question_;
      const bool counts = training.rewritten_history || !is_rewritten;
      weights_.push_back(counts ? weight_of(message.role, message.weight) : 0);
      if (is_answer) {
        last_answer = i;
        last_trained = weights_[i] > 0 ? i : last_trained;
      }
    }
    for (std::size_t i = 0; training.last_answer_only && i < turns_.size(); ++i) {
      if (turns_[i].parts.empty() && i != last_trained) {
        masked_messages_ += weights_[i] > 0 ? 1 : 0;
      }
      weights_[i] = i == last_trained ? weights_[i] : 0;
      for (auto& part : turns_[i].parts) {
        masked_messages_ += weight_of(part.role, part.weight) > 0 ? 1 : 0;
        part.weight = 0;
      }
    }
    for (std::size_t i = 0; i < turns_.size(); ++i) {
      const float own = weights_[i];
      const bool is_meant = training.on_end == TrainOnEos::kTurn  ? own > 0
                            : training.on_end == TrainOnEos::kAll ? true
                                                                  : i == last_answer;
      const bool is_trained = is_meant && training.on_end != TrainOnEos::kNone;
      end_weights_.push_back(!is_trained ? 0 : own > 0 ? own : 1);
    }
  }

  // What comes from messages.
  void data(std::string_view text) {
    if (text.empty()) {
      return;
    }
    if (segments_.empty() || segments_.back().special || segments_.back().weight != weight_) {
      segments_.push_back({"", false, weight_ > 0, weight_});
    }
    segments_.back().text += text;
  }

  void special(const char* token) { segments_.push_back({token, true, weight_ > 0, weight_}); }

  // What the template writes: the tokens it spells are meant.
  void fixed(std::string_view text) {
    while (!text.empty()) {
      std::size_t at = text.size();
      const char* found = nullptr;
      for (const char* token : {kThink, kEndThink, kDsml}) {
        if (const auto position = text.find(token); position < at) {
          at = position;
          found = token;
        }
      }
      data(text.substr(0, at));
      text.remove_prefix(at);
      if (found != nullptr) {
        special(found);
        text.remove_prefix(std::string_view(found).size());
      }
    }
  }

  void effort() {
    if (!options_.effort) {
      return;
    }
    const bool preview = options_.profile == ChatProfile::kV4Preview;
    require(
        !preview || *options_.effort != ReasoningEffort::kLow,
        "reasoning effort 'low' does not exist in the profile v4_preview; expected high or max");
    if (!thinks_) {
      return;
    }
    if (*options_.effort == ReasoningEffort::kMax) {
      data(preview ? kEffortAbsolute : kEffortBeyond);
    } else if (*options_.effort == ReasoningEffort::kHigh && !preview) {
      data(kEffortAbsolute);
    }
  }

  void turn(std::size_t i) {
    const ChatMessage& message = turns_[i].message;
    const float weight = weights_[i];
    switch (message.role) {
      case ChatRole::kSystem:
        weight_ = weight;
        data(message.content);
        declarations(message);
        break;
      case ChatRole::kDeveloper:
        require(!message.content.empty(), "a developer message must not be empty");
        special(kUser);
        weight_ = weight;
        data(message.content);
        declarations(message);
        break;
      case ChatRole::kUser:
      case ChatRole::kTool:
        special(kUser);
        parts(turns_[i].parts);
        break;
      case ChatRole::kLatestReminder:
        special(kLatestReminder);
        weight_ = weight;
        data(message.content);
        break;
      case ChatRole::kAssistant:
        answer(i);
        break;
    }
    weight_ = 0;
    what_follows(i);
  }

  void declarations(const ChatMessage& message) {
    if (!message.tools.empty()) {
      fixed(kToolsBefore);
      for (std::size_t i = 0; i < message.tools.size(); ++i) {
        data(i > 0 ? "\n" : "");
        data(message.tools[i]);
      }
      fixed(kToolsAfter);
    }
    if (!message.response_format.empty()) {
      fixed(kFormatBefore);
      data(message.response_format);
    }
  }

  void parts(const std::vector<ChatTurn::Part>& all) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      weight_ = weight_of(all[i].role, all[i].weight);
      data(i > 0 ? "\n\n" : "");
      data(all[i].is_result ? "<tool_result>" : "");
      data(all[i].text);
      data(all[i].is_result ? "</tool_result>" : "");
    }
  }

  // Everything here is the assistant's own.
  void answer(std::size_t i) {
    const ChatMessage& message = turns_[i].message;
    weight_ = weights_[i];
    const bool answers_task = i > 0 && turns_[i - 1].message.task.has_value();
    const bool is_last = !has_question_ || i > last_question_;
    if (thinks_ && !answers_task && (!drops_ || is_last)) {
      data(message.reasoning);
      special(kEndThink);
    }
    data(message.content);
    if (!message.tool_calls.empty()) {
      fixed("\n\n<｜DSML｜tool_calls>\n");
      for (const ToolCall& call : message.tool_calls) {
        tool_call(call);
      }
      fixed("</｜DSML｜tool_calls>");
    }
    if (!message.without_end) {
      weight_ = end_weights_[i];
      special(kEnd);
    }
  }

  void tool_call(const ToolCall& call) {
    fixed("<｜DSML｜invoke name=\"");
    data(call.name);
    fixed("\">\n");
    for (std::size_t i = 0; i < call.arguments.size(); ++i) {
      const auto& [name, value] = call.arguments[i];
      const bool is_string = value.kind == OrderedJson::Kind::kString;
      data(i > 0 ? "\n" : "");
      fixed("<｜DSML｜parameter name=\"");
      data(name);
      fixed(is_string ? "\" string=\"true\">" : "\" string=\"false\">");
      data(is_string ? value.text : python_json(value));
      fixed("</｜DSML｜parameter>");
    }
    fixed("\n</｜DSML｜invoke>\n");
  }

  // The header of the answer, or the token of a task.
  void what_follows(std::size_t i) {
    const bool is_final = i + 1 == turns_.size();
    const auto next = is_final ? ChatRole::kAssistant : turns_[i + 1].message.role;
    if (next != ChatRole::kAssistant && next != ChatRole::kLatestReminder) {
      return;
    }
    const ChatMessage& message = turns_[i].message;
    if (message.task) {
      if (*message.task == ChatTask::kAction) {
        header(i);
      }
      special(task_token(*message.task));
      return;
    }
    if (options_.header_after_reminder) {
      // A reminder stands for the turn before it, whose header comes after the reminder.
      if (next == ChatRole::kLatestReminder) {
        return;
      }
      std::size_t from = i;
      while (from > 0 && turns_[from].message.role == ChatRole::kLatestReminder) {
        --from;
      }
      if (opens_answer(from, is_final, next)) {
        header(from);
      }
    } else if (opens_answer(i, is_final, next)) {
      header(i);
    }
  }

  bool opens_answer(std::size_t i, bool is_final, ChatRole next) const {
    const ChatRole role = turns_[i].message.role;
    return is_question(turns_[i])
               ? !turns_[i].message.task.has_value()
               : role == ChatRole::kSystem && (is_final || next == ChatRole::kAssistant);
  }

  void header(std::size_t i) {
    special(kAssistant);
    special(thinks_ && (!drops_ || !has_question_ || i >= last_question_) ? kThink : kEndThink);
  }

  std::vector<ChatTurn> turns_;
  const ChatOptions& options_;
  bool thinks_ = false, drops_ = false, has_question_ = false;
  float weight_ = 0;                          // of what is being written
  std::vector<float> weights_, end_weights_;  // by turn
  std::size_t last_question_ = 0;
  int64_t masked_messages_ = 0;
  std::vector<ChatSegment> segments_;
};

}  // namespace

RenderedChat::RenderedChat(const std::vector<ChatMessage>& messages,
                           const ChatOptions& options,
                           const std::vector<ChatMessage>& context) {
  std::vector<ChatTurn> turns;
  for (const ChatMessage& message : context) {
    append_turn(turns, message, /*rendered=*/false);
  }
  for (const ChatMessage& message : messages) {
    append_turn(turns, message, /*rendered=*/true);
  }
  sort_results(turns);
  ChatWriter writer(std::move(turns), options);
  segments_ = writer.write();
  masked_messages_ = writer.masked_messages();
}

std::string RenderedChat::text() const {
  std::string result;
  for (const ChatSegment& segment : segments_) {
    result += segment.text;
  }
  return result;
}

RenderedChat::Ids RenderedChat::encode(const Tokenizer& tokenizer) const {
  Ids result;
  for (const ChatSegment& segment : segments_) {
    const auto begin = static_cast<int64_t>(result.ids.size());
    if (segment.special) {
      const auto id = tokenizer.special_id(segment.text);
      require(id.has_value(),
              "the tokenizer ",
              tokenizer.name(),
              " has no token '",
              segment.text,
              "', which DeepSeek-V4's conversations need");
      result.ids.push_back(*id);
    } else {
      const auto ids = tokenizer.encode(segment.text);
      result.ids.insert(result.ids.end(), ids.begin(), ids.end());
    }
    const auto end = static_cast<int64_t>(result.ids.size());
    if (segment.trained && begin < end) {
      if (!result.trained.empty() && result.trained.back().end == begin &&
          result.trained.back().weight == segment.weight) {
        result.trained.back().end = end;
      } else {
        result.trained.push_back({begin, end, segment.weight});
      }
    }
  }
  return result;
}

}  // namespace braid
