#include "data/store_documents.h"

#include "core/interruption.h"
#include "core/work.h"

namespace braid {
namespace {

// Neighbours of one weight are one span.
std::vector<TargetSpan> spans_of(const TokenStore& store, int64_t document) {
  const int64_t size = store.num_tokens(document) + 1;
  const auto are_targets = store.targets(document, 0, size);
  const auto weights = store.target_weights(document, 0, size);
  std::vector<TargetSpan> spans;
  for (int64_t i = 0; i < size; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (are_targets[at] == 0) {
      continue;
    }
    if (!spans.empty() && spans.back().end == i && spans.back().weight == weights[at]) {
      spans.back().end = i + 1;
    } else {
      spans.push_back({i, i + 1, weights[at]});
    }
  }
  return spans;
}

}  // namespace

StoreDocuments::StoreDocuments(const std::filesystem::path& file, const Tokenizer& tokenizer)
    : store_(file), tokenizer_(tokenizer) {
  store_.require_match(tokenizer);
}

bool StoreDocuments::next(Document& document) {
  stop_if_interrupted();
  if (next_ == store_.num_documents()) {
    return false;
  }
  document.ids = store_.tokens(next_);
  document.targets = spans_of(store_, next_);
  document.content_hash = content_hash(tokenizer_.decode(document.ids, SpecialTokens::kSpell));
  Work::did(static_cast<int64_t>(document.ids.size() * store_.trailer().token_bytes));
  ++next_;
  return true;
}

}  // namespace braid
