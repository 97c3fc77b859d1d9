#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/file.h"
#include "data/token_store.h"

namespace braid {

/// Writes a token store, document by document. Without commit() nothing stays.
class TokenStoreWriter {
 public:
  /// `sources_digest`: 32 characters that say what the store is made from.
  TokenStoreWriter(const std::filesystem::path& path,
                   const Tokenizer& tokenizer,
                   const std::string& sources_digest);

  void add(std::string_view document);
  int64_t num_documents() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  void commit();

 private:
  void append(const void* bytes, std::size_t size);
  void flush();

  AtomicFile file_;
  const Tokenizer& tokenizer_;
  TokenStore::Trailer trailer_{};
  std::vector<uint64_t> offsets_ = {0};
  std::string buffer_;
  XXH3_state_t digest_;
};

}  // namespace braid
