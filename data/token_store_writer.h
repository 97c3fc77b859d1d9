#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/file.h"
#include "data/document.h"
#include "data/target_bits.h"
#include "data/token_store.h"

namespace braid {

/// Writes a token store, document by document. Without commit() nothing stays.
class TokenStoreWriter {
 public:
  /// `tokenizer`: whose ids the documents hold. `sources_digest`: 32 characters that say what the
  /// store is made from.
  TokenStoreWriter(const std::filesystem::path& path,
                   const Tokenizer& tokenizer,
                   const std::string& sources_digest);

  /// Throws Error for a document without tokens, an id outside the vocabulary and spans that are
  /// not as Document wants them.
  /// A store holds pairs (every second document is `with_previous`) or single documents; throws
  /// Error for a mixture.
  void add(const Document& document);
  int64_t num_documents() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  /// Throws Error where no token is a target.
  void commit();

 private:
  void check(const Document& document) const;
  void add_weight(float weight);
  void append(const void* bytes, std::size_t size);
  void pad();
  void flush();

  AtomicFile file_;
  TokenStore::Trailer trailer_{};
  std::vector<uint16_t> byte_lengths_;  // by id
  std::vector<uint64_t> offsets_ = {0};
  TargetBits targets_;
  std::vector<float> weights_;  // one a bit; empty while all are 1
  std::string buffer_;
  uint64_t written_ = 0;  // bytes of the file so far
  XXH3_state_t digest_;
};

}  // namespace braid
