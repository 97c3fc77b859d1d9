#include "data/document.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "data/tokenizer.h"

namespace braid {

std::vector<TargetSpan> target_spans(const std::vector<float>& weights) {
  std::vector<TargetSpan> spans;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto at = static_cast<int64_t>(i);
    if (weights[i] > 0 && !spans.empty() && spans.back().end == at &&
        spans.back().weight == weights[i]) {
      ++spans.back().end;
    } else if (weights[i] > 0) {
      spans.push_back({at, at + 1, weights[i]});
    }
  }
  return spans;
}

int64_t num_inputs(const Document& document) {
  const auto size = static_cast<int64_t>(document.ids.size());
  const bool ends_in_target = !document.targets.empty() && document.targets.back().end > size;
  return size + (ends_in_target ? 1 : 0);
}

uint64_t content_hash(std::string_view content) {
  return XXH3_64bits(content.data(), content.size());
}

Document text_document(std::string_view text, const Tokenizer& tokenizer) {
  Document document;
  document.ids = tokenizer.encode(text);
  document.targets = {{0, static_cast<int64_t>(document.ids.size()) + 1}};
  document.content_hash = content_hash(text);
  return document;
}

bool is_validation_document(uint64_t content_hash, double fraction) {
  return static_cast<double>(content_hash >> 11) * 0x1.0p-53 < fraction;
}

}  // namespace braid
