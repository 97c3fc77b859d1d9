#include "data/sample_parser.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/chat_render.h"
#include "data/json_line.h"
#include "data/v4_tokens.h"

namespace braid {
namespace {

using Kind = OrderedJson::Kind;

bool holds_conversations(SampleFormat format) {
  return format != SampleFormat::kText && format != SampleFormat::kTokens;
}

void require_chat_tokens(const Tokenizer& tokenizer) {
  for (const char* token : {v4_tokens::kUser,
                            v4_tokens::kAssistant,
                            v4_tokens::kThink,
                            v4_tokens::kEndThink,
                            v4_tokens::kEnd}) {
    require(tokenizer.special_id(token).has_value(),
            "the tokenizer ",
            tokenizer.name(),
            " has no token '",
            token,
            "', which conversations need; take DeepSeek-V4's tokenizer.json, or `bytes`");
  }
}

// Of ids and targets, so that the same tokens have the same hash in whichever format they came.
uint64_t hash_of(const Document& document) {
  std::string bytes;
  const auto append = [&bytes](const auto& value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  for (const int64_t id : document.ids) {
    append(id);
  }
  for (const auto& [begin, end, weight] : document.targets) {
    append(begin);
    append(end);
    append(weight);
  }
  return content_hash(bytes);
}

// Spans that weigh nothing are no targets.
void weigh(std::vector<TargetSpan>& spans, float weight) {
  for (TargetSpan& span : spans) {
    span.weight *= weight;
  }
  std::erase_if(spans, [](const TargetSpan& span) { return !(span.weight > 0); });
}

void finish(Document& document, const char* what) {
  if (document.targets.empty()) {
    throw SampleError(SampleFault::kNothingTrained, text("has no trained token", what));
  }
  document.content_hash = hash_of(document);
}

[[noreturn]] void wrong_ids(const std::string& reason) {
  throw SampleError(SampleFault::kTokens, reason);
}

const OrderedJson& list_under(const OrderedJson& list, const std::string& key) {
  if (list.kind != Kind::kList) {
    wrong_ids(text("has ", kind_name(list), " under '", key, "'; expected a list"));
  }
  return list;
}

int64_t whole_number(const OrderedJson& value, const std::string& key) {
  int64_t number = 0;
  const char* end = value.text.data() + value.text.size();
  if (value.kind != Kind::kNumber ||
      std::from_chars(value.text.data(), end, number) != std::from_chars_result{end, {}}) {
    wrong_ids(text("has ", described(value), " in '", key, "'; expected whole numbers"));
  }
  return number;
}

float weight_in(const OrderedJson& value, const std::string& key) {
  const float number = value.kind == Kind::kNumber    ? std::strtof(value.text.c_str(), nullptr)
                       : value.kind == Kind::kBoolean ? (value.text == "true" ? 1.0f : 0.0f)
                                                      : -1.0f;
  if (!(number >= 0 && std::isfinite(number))) {
    wrong_ids(text("has ", described(value), " in '", key, "'; expected weights of at least 0"));
  }
  return number;
}

void require_as_many(const OrderedJson& list, std::size_t ids, const std::string& key) {
  if (list_under(list, key).items.size() != ids) {
    wrong_ids(text("has ", list.items.size(), " values in '", key, "' for ", ids, " ids"));
  }
}

std::vector<TargetSpan> of_labels(const OrderedJson& labels, const std::vector<int64_t>& ids) {
  constexpr int64_t kNotTrained = -100;
  require_as_many(labels, ids.size(), "labels");
  std::vector<float> weights;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const int64_t label = whole_number(labels.items[i], "labels");
    if (label != kNotTrained && label != ids[i]) {
      wrong_ids(text("has the label ",
                     label,
                     " for id ",
                     ids[i],
                     " (number ",
                     i,
                     "); expected the same, or -100 = not trained"));
    }
    weights.push_back(label == kNotTrained ? 0 : 1);
  }
  return target_spans(weights);
}

std::vector<TargetSpan> of_mask(const OrderedJson& mask, std::size_t ids) {
  require_as_many(mask, ids, "loss_mask");
  std::vector<float> weights;
  for (const OrderedJson& value : mask.items) {
    weights.push_back(weight_in(value, "loss_mask"));
  }
  return target_spans(weights);
}

std::vector<TargetSpan> of_spans(const OrderedJson& spans, std::size_t ids) {
  std::vector<TargetSpan> result;
  int64_t previous = 0;
  for (const OrderedJson& item : list_under(spans, "targets").items) {
    if (item.kind != Kind::kList || item.items.size() < 2 || item.items.size() > 3) {
      wrong_ids("has something else than [begin, end] or [begin, end, weight] in 'targets'");
    }
    const TargetSpan span = {whole_number(item.items[0], "targets"),
                             whole_number(item.items[1], "targets"),
                             item.items.size() == 3 ? weight_in(item.items[2], "targets") : 1};
    if (span.begin < previous || span.end <= span.begin ||
        span.end > static_cast<int64_t>(ids) + 1) {
      wrong_ids(text("has the span [",
                     span.begin,
                     ", ",
                     span.end,
                     "] in 'targets'; expected spans in order, disjoint and not empty, of ",
                     ids,
                     " ids and the end token"));
    }
    previous = span.end;
    result.push_back(span);
  }
  return result;
}

// The loader puts it in front of every document.
void leave_out_begin(Document& document, int64_t begin_id) {
  if (document.ids.front() != begin_id) {
    return;
  }
  document.ids.erase(document.ids.begin());
  for (TargetSpan& span : document.targets) {
    span.begin = std::max<int64_t>(span.begin - 1, 0);
    --span.end;
  }
  std::erase_if(document.targets, [](const TargetSpan& span) { return span.begin == span.end; });
}

}  // namespace

SampleParser::SampleParser(SampleFormat format,
                           const SampleRules& rules,
                           const Tokenizer& tokenizer,
                           std::string text_key)
    : format_(format), rules_(rules), tokenizer_(tokenizer), text_key_(std::move(text_key)) {
  if (holds_conversations(format)) {
    require_chat_tokens(tokenizer);
    auto options = rules.chat_options();
    options.mode = ChatMode::kThinking;
    RenderedChat({}, options);  // refuses the effort
  }
}

Document SampleParser::conversation(const std::vector<ChatMessage>& messages, float weight) const {
  auto options = rules_.chat_options();
  const auto last = std::find_if(messages.rbegin(), messages.rend(), [](const auto& message) {
    return message.role == ChatRole::kAssistant;
  });
  const bool reasons = last != messages.rend() && !last->reasoning.empty();
  if (format_ == SampleFormat::kPreference) {  // the two differ in their last answers
    options.training.last_answer_only = true;
  }
  options.mode = rules_.thinking == Thinking::kOn || (rules_.thinking == Thinking::kAuto && reasons)
                     ? ChatMode::kThinking
                     : ChatMode::kChat;
  Document document;
  try {
    const RenderedChat chat(messages, options);
    auto rendered = chat.encode(tokenizer_);
    document.masked_messages = rules_.mask_history ? chat.masked_messages() : 0;
    document.ids = std::move(rendered.ids);
    document.targets = std::move(rendered.trained);
  } catch (const Error& error) {
    throw SampleError(SampleFault::kMessages, text("has a wrong message: ", error.what()));
  }
  weigh(document.targets, weight);
  finish(document, "");
  return document;
}

Document SampleParser::tokens(const SampleFields& sample, float weight) const {
  const OrderedJson* ids = sample.find("input_ids");
  const char* key = ids == nullptr ? "ids" : "input_ids";
  ids = ids == nullptr ? sample.find("ids") : ids;
  if (ids == nullptr) {
    throw SampleError(SampleFault::kKeys, "has no key 'input_ids' or 'ids'");
  }
  Document document;
  for (const OrderedJson& id : list_under(*ids, key).items) {
    document.ids.push_back(whole_number(id, key));
    if (document.ids.back() < 0 || document.ids.back() >= tokenizer_.vocab_size()) {
      wrong_ids(text("has the id ",
                     document.ids.back(),
                     " in '",
                     key,
                     "'; the tokenizer ",
                     tokenizer_.name(),
                     " has ",
                     tokenizer_.vocab_size()));
    }
  }
  const std::size_t size = document.ids.size();
  if (size == 0) {
    throw SampleError(SampleFault::kEmpty, text("has no ids under '", key, "'"));
  }
  if (const OrderedJson* labels = sample.find("labels")) {
    document.targets = of_labels(*labels, document.ids);
  } else if (const OrderedJson* mask = sample.find("loss_mask")) {
    document.targets = of_mask(*mask, size);
  } else if (const OrderedJson* spans = sample.find("targets")) {
    document.targets = of_spans(*spans, size);
  } else {
    const bool has_end = document.ids.back() == tokenizer_.end_id();
    document.targets = {{0, static_cast<int64_t>(size) + (has_end ? 0 : 1)}};
  }
  leave_out_begin(document, tokenizer_.begin_id());
  if (document.ids.empty()) {
    throw SampleError(SampleFault::kEmpty, text("has only the begin token under '", key, "'"));
  }
  weigh(document.targets, weight);
  finish(document, "");
  return document;
}

std::vector<Document> SampleParser::parse(std::string_view line) const {
  if (format_ == SampleFormat::kText) {
    std::string content;
    if (const auto fault = take_json_text(line, text_key_, content); !fault.empty()) {
      throw SampleError(SampleFault::kNoJson, fault);
    }
    if (content.find_first_not_of(" \t\r\n\f\v") == std::string::npos) {
      throw SampleError(SampleFault::kEmpty, "has a text of nothing but white space");
    }
    return {text_document(content, tokenizer_)};
  }
  const auto sample = sample_fields(line, format_, text_key_);
  const float weight = sample_weight(sample);
  if (format_ == SampleFormat::kTokens) {
    return {tokens(sample, weight)};
  }
  if (format_ != SampleFormat::kPreference) {
    return {conversation(conversation_of(sample, format_), weight)};
  }
  if (weight != 1) {
    throw SampleError(SampleFault::kKeys, "has a 'weight', which preferences have not");
  }
  std::vector<Document> pair = {conversation(prompt_with(sample, "chosen"), weight),
                                conversation(prompt_with(sample, "rejected"), weight)};
  for (const Document& answer : pair) {
    if (std::ranges::any_of(answer.targets, [](const auto& span) { return span.weight != 1; })) {
      throw SampleError(SampleFault::kFields,
                        "has a message with a 'weight', which preferences have not");
    }
  }
  pair[1].with_previous = true;
  return pair;
}

void cut_document(Document& document, int64_t longest) {
  if (num_inputs(document) <= longest) {
    return;
  }
  // As many ids as inputs: the begin token is one, and the last id is only a target.
  document.ids.resize(static_cast<std::size_t>(longest));
  for (TargetSpan& span : document.targets) {
    span.end = std::min(span.end, longest);
  }
  std::erase_if(document.targets, [](const TargetSpan& span) { return span.begin >= span.end; });
  finish(document, text(" within its first ", longest, " tokens").c_str());
}

std::string tokens_line(const Document& document) {
  auto targets = nlohmann::json::array();
  for (const auto& [begin, end, weight] : document.targets) {
    targets.push_back(weight == 1 ? nlohmann::json{begin, end}
                                  : nlohmann::json{begin, end, weight});
  }
  return text(
      "{\"ids\":", nlohmann::json(document.ids).dump(), ",\"targets\":", targets.dump(), "}\n");
}

}  // namespace braid
