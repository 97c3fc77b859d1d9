#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "data/tokenizer.h"

namespace braid {

/// A memory-mapped file of tokenized documents. Documents hold text tokens only; begin and end
/// tokens are the loader's business.
///
/// File, little-endian: "BRAIDTOK"; the tokens of all documents, 2 or 4 bytes each; zeros up to a
/// multiple of 8; num_documents + 1 token offsets (uint64); the trailer.
class TokenStore {
 public:
  struct Trailer {
    uint64_t version;
    uint64_t token_bytes;  ///< 2 or 4
    uint64_t vocab_size;
    uint64_t num_documents;
    uint64_t num_tokens;
    uint64_t text_bytes;                  ///< bytes of text in all documents
    std::array<char, 32> tokenizer;       ///< Tokenizer::name(), padded with zeros
    std::array<char, 32> sources_digest;  ///< of what the store was built from
    uint64_t digest;                      ///< XXH3-64 of every byte of the file before this number
    std::array<char, 8> magic;            ///< the same as at the start
  };
  static constexpr std::string_view kMagic = "BRAIDTOK";
  static constexpr uint64_t kVersion = 1;

  /// Maps the file and reads all of it once. Throws Error with the path for a file that is not a
  /// token store, of another version, truncated, altered, inconsistent or made by another
  /// tokenizer.
  TokenStore(const std::filesystem::path& path, const Tokenizer& tokenizer);

  const std::filesystem::path& path() const { return file_.path(); }
  int64_t num_documents() const { return static_cast<int64_t>(trailer_.num_documents); }
  int64_t num_tokens() const { return static_cast<int64_t>(trailer_.num_tokens); }
  /// What bits per byte divides by.
  int64_t text_bytes() const { return static_cast<int64_t>(trailer_.text_bytes); }
  std::string sources_digest() const;
  int64_t begin_id() const { return begin_id_; }
  int64_t end_id() const { return end_id_; }
  int64_t pad_id() const { return pad_id_; }
  /// Bytes of text the id stands for. Not checked.
  int64_t byte_length(int64_t id) const { return byte_lengths_[static_cast<std::size_t>(id)]; }

  int64_t num_tokens(int64_t document) const {
    return static_cast<int64_t>(offsets_[document + 1] - offsets_[document]);
  }
  /// Token `index` of a document; neither is checked.
  int64_t token(int64_t document, int64_t index) const {
    const uint64_t at = offsets_[document] + static_cast<uint64_t>(index);
    return trailer_.token_bytes == 2 ? int64_t{reinterpret_cast<const uint16_t*>(tokens_)[at]}
                                     : int64_t{reinterpret_cast<const uint32_t*>(tokens_)[at]};
  }

 private:
  MappedFile file_;
  Trailer trailer_;
  const std::byte* tokens_ = nullptr;
  const uint64_t* offsets_ = nullptr;
  int64_t begin_id_, end_id_, pad_id_;
  std::vector<int64_t> byte_lengths_;  // by id
};

}  // namespace braid
