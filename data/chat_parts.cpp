#include "data/chat_parts.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "data/v4_tokens.h"

namespace braid {
namespace {

constexpr std::string_view kResultBegin = "<tool_result>", kResultEnd = "</tool_result>";
// Of a block of calls, what stands before its first special token.
constexpr std::string_view kBeforeCalls = "\n\n<";

}  // namespace

bool is_assistant(ChatPart part) {
  return part == ChatPart::kReasoning || part == ChatPart::kText || part == ChatPart::kCalls ||
         part == ChatPart::kEnd;
}

ChatPartReader::ChatPartReader(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      user_(tokenizer.special_id(v4_tokens::kUser)),
      assistant_(tokenizer.special_id(v4_tokens::kAssistant)),
      reminder_(tokenizer.special_id(v4_tokens::kLatestReminder)),
      think_(tokenizer.special_id(v4_tokens::kThink)),
      end_think_(tokenizer.special_id(v4_tokens::kEndThink)),
      dsml_(tokenizer.special_id(v4_tokens::kDsml)) {
  for (const char* token : {v4_tokens::kAction,
                            v4_tokens::kQuery,
                            v4_tokens::kAuthority,
                            v4_tokens::kDomain,
                            v4_tokens::kTitle,
                            v4_tokens::kReadUrl}) {
    if (const auto id = tokenizer.special_id(token)) {
      tasks_.push_back(*id);
    }
  }
}

std::vector<ChatPartSpan> ChatPartReader::parts(const std::vector<int64_t>& ids) const {
  std::vector<ChatPartSpan> spans;
  const auto part_of = part_of_each(ids);
  for (std::size_t i = 0; i < part_of.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (spans.empty() || spans.back().part != part_of[i]) {
      spans.push_back({at, at, part_of[i]});
    }
    spans.back().end = at + 1;
  }
  return spans;
}

std::optional<ChatPartReader::Answer> ChatPartReader::last_answer(
    const std::vector<int64_t>& ids) const {
  const auto part_of = part_of_each(ids);
  auto end = part_of.size();
  while (end > 0 && !is_assistant(part_of[end - 1])) {
    --end;
  }
  if (end == 0) {
    return std::nullopt;
  }
  auto begin = end;
  while (begin > 0 && is_assistant(part_of[begin - 1])) {
    --begin;
  }
  if (part_of[end - 1] == ChatPart::kEnd) {
    --end;
  }
  return Answer{static_cast<int64_t>(begin),
                static_cast<int64_t>(end),
                begin > 0 && ids[begin - 1] == think_ ? ChatMode::kThinking : ChatMode::kChat};
}

// Empty where there is no answer.
std::vector<ChatPart> ChatPartReader::part_of_each(const std::vector<int64_t>& ids) const {
  const auto begins_answer = [this](int64_t id) {
    return id == assistant_ || std::ranges::find(tasks_, id) != tasks_.end();
  };
  if (std::ranges::none_of(ids, begins_answer)) {
    return {};
  }
  std::vector<ChatPart> part_of(ids.size(), ChatPart::kHeader);
  ChatPart part = ChatPart::kSystem;  // of what has no header
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const int64_t id = ids[i];
    const bool in_header = i > 0 && ids[i - 1] == assistant_;
    if (id == user_) {
      part = ChatPart::kUser;
    } else if (id == reminder_) {
      part = ChatPart::kLatestReminder;
    } else if (begins_answer(id)) {
      part = ChatPart::kText;
    } else if (in_header && (id == think_ || id == end_think_)) {
      part = id == think_ ? ChatPart::kReasoning : ChatPart::kText;
    } else if (is_assistant(part) && id == tokenizer_.end_id()) {
      part_of[i] = ChatPart::kEnd;
      part = ChatPart::kSystem;
    } else {
      if (part == ChatPart::kText && id == dsml_) {
        part = ChatPart::kCalls;
        mark_begin_of_calls(ids, i, part_of);
      }
      part_of[i] = part;
      part = part == ChatPart::kReasoning && id == end_think_ ? ChatPart::kText : part;
    }
  }
  mark_results(ids, part_of);
  return part_of;
}

// The first special token of the calls is at `at`.
void ChatPartReader::mark_begin_of_calls(const std::vector<int64_t>& ids,
                                         std::size_t at,
                                         std::vector<ChatPart>& part_of) const {
  std::string_view before = kBeforeCalls;
  for (; at > 0 && part_of[at - 1] == ChatPart::kText; --at) {
    const auto bytes = tokenizer_.decode({ids[at - 1]});
    if (bytes.empty() || !before.ends_with(bytes)) {
      return;
    }
    before.remove_suffix(bytes.size());
    part_of[at - 1] = ChatPart::kCalls;
  }
}

void ChatPartReader::mark_results(const std::vector<int64_t>& ids,
                                  std::vector<ChatPart>& part_of) const {
  for (std::size_t begin = 0, end = 0; begin < ids.size(); begin = std::max(end, begin + 1)) {
    end = begin;
    std::string bytes;
    std::vector<std::size_t> first_bytes;
    for (; end < ids.size() && part_of[end] == ChatPart::kUser; ++end) {
      first_bytes.push_back(bytes.size());
      bytes += tokenizer_.decode({ids[end]});
    }
    for (auto from = bytes.find(kResultBegin); from != bytes.npos;) {
      const auto closed = bytes.find(kResultEnd, from);
      const auto to = closed == bytes.npos ? bytes.size() : closed + kResultEnd.size();
      for (std::size_t i = 0; i < first_bytes.size(); ++i) {
        if (first_bytes[i] >= from && first_bytes[i] < to) {
          part_of[begin + i] = ChatPart::kTool;
        }
      }
      from = bytes.find(kResultBegin, to);
    }
  }
}

}  // namespace braid
