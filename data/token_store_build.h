#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/config.h"
#include "data/text_source.h"
#include "data/tokenizer.h"

namespace braid {

/// What to train and validate on. Validation is either sources of its own or a fraction of the
/// training documents, chosen by a hash of their content; with neither there is none.
struct Corpus {
  std::vector<TextSource> training;    ///< each becomes a store of its own
  std::vector<TextSource> validation;  ///< the same
  double validation_fraction = 0;      ///< of the training documents, [0, 1)
};

struct CorpusFiles {
  /// The documents of one validation source, or of the fraction.
  struct Validation {
    std::filesystem::path store;
    /// The same as JSONL, which reads back to the same documents: {"text": ...} a line, where bytes
    /// that are no UTF-8 become U+FFFD; with samples among them {"ids": ..., "targets": ...}.
    std::filesystem::path text;
  };
  std::vector<std::filesystem::path> training;  ///< token stores, one for each source
  std::vector<Validation> validation;           ///< one for each source; of a fraction, one
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
  int64_t validation_not_utf8 = 0;  ///< documents that the validation texts do not hold exactly
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
