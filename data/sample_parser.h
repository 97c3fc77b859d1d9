#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "data/document.h"
#include "data/sample_format.h"
#include "data/sample_rules.h"
#include "data/tokenizer.h"

namespace braid {

/// Makes documents of samples, one JSON object each:
///   text         as text_document()
///   messages, sharegpt, alpaca, prompt
///                the conversation as DeepSeek-V4 reads it (chat_render.h); targets are what the
///                rules train, weighted by the sample's weight times the message's
///   preference   two documents, the chosen answer's and, `with_previous`, the rejected one's
///   tokens       `input_ids` or `ids`. Targets: `labels` (an id where it is one, -100 where not),
///                or `loss_mask` (a weight for each id), or `targets` (a list of [begin, end] or
///                [begin, end, weight]), else all. A begin token in front is the loader's, and left
///                out.
class SampleParser {
 public:
  /// `format` is not kAuto; `tokenizer` must outlive the object. Throws Error for a tokenizer
  /// without the special tokens of DeepSeek-V4's conversations where the format holds some, and for
  /// an effort that the profile has not.
  SampleParser(SampleFormat format,
               const SampleRules& rules,
               const Tokenizer& tokenizer,
               std::string text_key = "text");

  SampleFormat format() const { return format_; }

  /// The documents of a sample, at least one, each with a target. Throws SampleError.
  std::vector<Document> parse(std::string_view line) const;

 private:
  Document conversation(const std::vector<ChatMessage>& messages, float weight) const;
  Document tokens(const SampleFields& sample, float weight) const;

  SampleFormat format_;
  SampleRules rules_;
  const Tokenizer& tokenizer_;
  std::string text_key_;
};

/// Leaves out what does not fit `longest` inputs. Throws SampleError where no target is left.
void cut_document(Document& document, int64_t longest);

/// A line in format `tokens` that reads back to the same ids and targets.
std::string tokens_line(const Document& document);

}  // namespace braid
