#pragma once
#include <filesystem>

#include "data/text_source.h"
#include "data/tokenizer.h"

namespace braid {

/// What to train and validate on. Validation is either a source of its own or a fraction of the
/// training documents, chosen by a hash of their content; with neither there is none.
struct Corpus {
  TextSource training;
  TextSource validation;           ///< no paths = none
  double validation_fraction = 0;  ///< of the training documents, [0, 1)
};

struct CorpusFiles {
  std::filesystem::path training;    ///< token store
  std::filesystem::path validation;  ///< token store; not written without validation
  std::filesystem::path
      validation_text;  ///< validation documents, byte for byte, one after another
};

/// Tokenizes a corpus into stores. Returns false when they are there already, made from the same
/// text with the same options and tokenizer; damaged stores are made anew. Every file appears whole
/// or not at all. Throws Error for what text_files() refuses, an empty side of the split, and an
/// existing file in the way that is no token store or is one of the sources.
bool build_token_stores(const Corpus& corpus, const Tokenizer& tokenizer, const CorpusFiles& files);

}  // namespace braid
