#pragma once
#include <memory>
#include <string_view>

#include "data/document.h"
#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace braid {

/// A text as a document: every token is a target, and the end token too.
Document text_document(std::string_view text, const Tokenizer& tokenizer);

/// The texts of a source as documents.
class TextDocuments : public DocumentSource {
 public:
  /// `tokenizer` must outlive the object. Throws as TextReader does.
  TextDocuments(const TextSource& source, const Tokenizer& tokenizer)
      : reader_(source), tokenizer_(tokenizer) {}

  bool next(Document& document) override;
  std::vector<std::string> notes() const override { return reader_.notes(); }

 private:
  TextReader reader_;
  const Tokenizer& tokenizer_;
};

/// The documents of a source, path by path, whatever the format of its files.
std::unique_ptr<DocumentSource> open_documents(const TextSource& source,
                                               const Tokenizer& tokenizer);

}  // namespace braid
