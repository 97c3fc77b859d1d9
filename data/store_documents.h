#pragma once
#include <cstdint>
#include <filesystem>

#include "data/document.h"
#include "data/token_store.h"
#include "data/tokenizer.h"

namespace braid {

/// The documents of a token store that was made before (`braid tokenize`), with their targets.
class StoreDocuments : public DocumentSource {
 public:
  /// `tokenizer` must outlive the object. Throws Error for what TokenStore refuses, and where the
  /// ids are not the tokenizer's.
  StoreDocuments(const std::filesystem::path& file, const Tokenizer& tokenizer);

  /// The hash is that of the document's text, special tokens spelled out: a text is on the same
  /// side of a split wherever it was tokenized.
  bool next(Document& document) override;

 private:
  TokenStore store_;
  const Tokenizer& tokenizer_;
  int64_t next_ = 0;
};

}  // namespace braid
