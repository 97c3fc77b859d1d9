#include "data/store_documents.h"

#include "core/interruption.h"
#include "core/work.h"

namespace braid {

StoreDocuments::StoreDocuments(const std::filesystem::path& file, const Tokenizer& tokenizer)
    : store_(file), tokenizer_(tokenizer) {
  store_.require_match(tokenizer);
}

bool StoreDocuments::next(Document& document) {
  stop_if_interrupted();
  if (next_ == store_.num_documents()) {
    return false;
  }
  document = store_.document(next_);
  document.with_previous = next_ % store_.documents_per_sample() != 0;
  document.content_hash = content_hash(tokenizer_.decode(document.ids, SpecialTokens::kSpell));
  Work::did(static_cast<int64_t>(document.ids.size() * store_.trailer().token_bytes));
  ++next_;
  return true;
}

}  // namespace braid
