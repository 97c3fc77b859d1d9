#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/byte_tokenizer.h"
#include "data/json_line.h"
#include "data/sample_parser.h"
#include "tests/fuzz/targets.h"

namespace braid::testing {
namespace {

const ByteTokenizer kBytes;

/// The rules that two bytes choose.
SampleRules rules_of(unsigned char first, unsigned char second) {
  SampleRules rules;
  rules.format = static_cast<SampleFormat>(first % 8);
  rules.train_on_eos = static_cast<TrainOnEos>(first >> 3 & 3);
  rules.thinking = static_cast<Thinking>((first >> 5) % 3);
  rules.mask_history = second & 1;
  rules.drop_thinking = second & 2;
  rules.chat_profile = second & 4 ? ChatProfile::kV40731 : ChatProfile::kV4Preview;
  if (second & 8) {
    rules.reasoning_effort = second & 16 ? ReasoningEffort::kHigh : ReasoningEffort::kMax;
  }
  if (second & 32) {
    rules.roles_to_train = {ChatRole::kUser, ChatRole::kTool, ChatRole::kAssistant};
  }
  return rules;
}

void require_sound(const Document& document) {
  const auto size = static_cast<int64_t>(document.ids.size());
  const auto is_id = [](int64_t id) { return 0 <= id && id < kBytes.vocab_size(); };
  if (document.ids.empty() || !std::ranges::all_of(document.ids, is_id)) {
    throw std::logic_error("a document without ids, or with an id outside the vocabulary");
  }
  if (document.targets.empty()) {
    throw std::logic_error("a document without a target");
  }
  int64_t previous = 0;
  for (const auto& [begin, end, weight] : document.targets) {
    if (begin < previous || end <= begin || end > size + 1 || !(weight > 0)) {
      throw std::logic_error("a target outside its document, out of order, or without weight");
    }
    previous = end;
  }
}

void require_same_from_tokens(const Document& document) {
  SampleRules rules;
  rules.format = SampleFormat::kTokens;
  const auto again =
      SampleParser(SampleFormat::kTokens, rules, kBytes).parse(tokens_line(document));
  if (again.size() != 1 || again[0].ids != document.ids || again[0].targets != document.targets) {
    throw std::logic_error("a document does not come back from its line of tokens");
  }
}

void require_sound_when_cut(Document document, int64_t longest) {
  try {
    cut_document(document, longest);
  } catch (const SampleError&) {
    return;  // no target is left
  }
  require_sound(document);
  if (num_inputs(document) > longest) {
    throw std::logic_error("a cut document is longer than asked for");
  }
}

/// Throws SampleError where the line holds no sample.
void read_line(std::string_view line, const SampleRules& rules) {
  auto format = rules.format;
  if (format == SampleFormat::kAuto) {
    format = guess_format(json_keys(line), "text");
    if (format == SampleFormat::kAuto) {
      throw SampleError(SampleFault::kKeys, "has keys of no format");
    }
  }
  for (const auto& document : SampleParser(format, rules, kBytes).parse(line)) {
    require_sound(document);
    if (document.ids.front() != kBytes.begin_id()) {
      require_same_from_tokens(document);
    }
    require_sound_when_cut(document, 1 + static_cast<int64_t>(line.size()) % 50);
  }
}

}  // namespace

bool read_samples(std::string_view bytes) {
  if (bytes.size() < 2) {
    return false;
  }
  const auto rules =
      rules_of(static_cast<unsigned char>(bytes[0]), static_cast<unsigned char>(bytes[1]));
  bytes.remove_prefix(2);
  bool accepted = true;
  while (!bytes.empty()) {
    const auto line = bytes.substr(0, bytes.find('\n'));
    bytes.remove_prefix(std::min(bytes.size(), line.size() + 1));
    try {
      read_line(line, rules);
    } catch (const SampleError&) {
      accepted = false;
    } catch (const Error&) {  // the rules do not fit each other
      return false;
    }
  }
  return accepted;
}

}  // namespace braid::testing
