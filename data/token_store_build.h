#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/config.h"
#include "data/text_source.h"
#include "data/tokenizer.h"

namespace braid {

/// What to train and validate on. Validation is either a source of its own or a fraction of the
/// training documents, chosen by a hash of their content; with neither there is none.
struct Corpus {
  std::vector<TextSource> training;  ///< each becomes a store of its own
  TextSource validation;             ///< no paths = none
  double validation_fraction = 0;    ///< of the training documents, [0, 1)
};

struct CorpusFiles {
  std::vector<std::filesystem::path> training;  ///< token stores, one for each source
  std::filesystem::path validation;             ///< token store; not written without validation
  std::filesystem::path
      validation_text;  ///< validation documents, byte for byte, one after another
};

/// What one path of a corpus held.
struct TextDigest {
  std::string path;
  std::string digest;  ///< XXH3-128 of the file, or of the digests of a folder's files, a line each
  int64_t bytes = 0;   ///< of the files as they are, compressed or not
  bool operator==(const TextDigest&) const = default;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("path", &TextDigest::path, "as data.train names it");
    v("digest", &TextDigest::digest, "XXH3-128");
    v("bytes", &TextDigest::bytes, "on the disk", at_least(0));
  }
};

struct CorpusBuild {
  bool rebuilt = false;              ///< false = the stores were there already
  std::vector<TextDigest> training;  ///< of every path of every source, in order
  /// Where they were built: what was left out, looks wrong or is there twice; lines for people.
  std::vector<std::string> notes;
};

/// Tokenizes a corpus into stores, unless they are there already, made from the same text with the
/// same options and tokenizer; damaged stores and those of an older format are built again. A
/// store's sources_digest() changes whenever its documents might. Every file appears whole or not
/// at all. Throws Error for what open_documents() and its source refuse, a source without text, an
/// empty side of the split, and an existing file in the way that is no token store or is one of the
/// sources.
CorpusBuild build_token_stores(const Corpus& corpus,
                               const Tokenizer& tokenizer,
                               const CorpusFiles& files);

}  // namespace braid
