#include "data/text_documents.h"

namespace braid {

Document text_document(std::string_view text, const Tokenizer& tokenizer) {
  Document document;
  document.ids = tokenizer.encode(text);
  document.targets = {{0, static_cast<int64_t>(document.ids.size()) + 1}};
  document.content_hash = content_hash(text);
  return document;
}

bool TextDocuments::next(Document& document) {
  const auto text = reader_.next();
  if (text) {
    document = text_document(*text, tokenizer_);
  }
  return text.has_value();
}

std::unique_ptr<DocumentSource> open_documents(const TextSource& source,
                                               const Tokenizer& tokenizer) {
  return std::make_unique<TextDocuments>(source, tokenizer);
}

}  // namespace braid
