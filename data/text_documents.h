#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "data/document.h"
#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace braid {

/// The texts of a source as documents. A megabyte of them, or one that is longer, is read at a time
/// and encoded on all threads.
class TextDocuments : public DocumentSource {
 public:
  /// `tokenizer` must outlive the object; its encode() is called by several threads at once. Throws
  /// as TextReader does.
  TextDocuments(const TextSource& source, const Tokenizer& tokenizer)
      : reader_(source), tokenizer_(tokenizer) {}

  bool next(Document& document) override;
  std::vector<std::string> notes() const override { return reader_.notes(); }

 private:
  void read_ahead();

  TextReader reader_;
  const Tokenizer& tokenizer_;
  std::vector<Document> ahead_;
  std::size_t given_ = 0;  // of ahead_
};

/// The documents of a source, path by path, whatever the format of its files; a path may be a token
/// store (data/store_documents.h).
std::unique_ptr<DocumentSource> open_documents(const TextSource& source,
                                               const Tokenizer& tokenizer);

}  // namespace braid
