#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "core/file.h"
#include "data/target_bits.h"
#include "data/tokenizer.h"

namespace braid {

/// A memory-mapped file of documents as token ids, with the tokens that are targets. It needs no
/// tokenizer: what the loader and bits per byte ask of one is in the file. Documents do not hold
/// the begin and end tokens around them; those are the loader's business.
///
/// File, little-endian, each part filled up with zeros to a multiple of 8 bytes:
///   "BRAIDTOK"
///   the tokens of all documents, 2 or 4 bytes each
///   num_documents + 1 token offsets, uint64
///   target bits: for each document one bit a token and one for its end token (target_bits.h);
///     nothing where all of them are targets
///   bytes of text of each id, vocab_size numbers of 2 bytes
///   the trailer
class TokenStore {
 public:
  /// From `version` on, every version of the format ends in the same way.
  struct Trailer {
    uint64_t begin_id, end_id, pad_id;
    uint64_t num_targets;      ///< of the documents' tokens
    uint64_t num_end_targets;  ///< documents whose end token is a target
    uint64_t version;
    uint64_t token_bytes;  ///< 2 or 4
    uint64_t vocab_size;
    uint64_t num_documents;
    uint64_t num_tokens;
    uint64_t text_bytes;                  ///< bytes of text that the targets stand for
    std::array<char, 32> tokenizer;       ///< Tokenizer::name(), padded with zeros
    std::array<char, 32> sources_digest;  ///< of what the store was built from
    uint64_t digest;                      ///< XXH3-64 of every byte of the file before this number
    std::array<char, 8> magic;            ///< the same as at the start
  };
  static constexpr std::string_view kMagic = "BRAIDTOK";
  static constexpr uint64_t kVersion = 2;

  /// Maps the file and reads all of it once. Throws Error with the path for a file that is not a
  /// token store, of another version, truncated, altered or inconsistent.
  explicit TokenStore(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const Trailer& trailer() const { return trailer_; }
  int64_t num_documents() const { return static_cast<int64_t>(trailer_.num_documents); }
  int64_t num_tokens() const { return static_cast<int64_t>(trailer_.num_tokens); }
  /// Tokens that are targets; end tokens are not counted.
  int64_t num_targets() const { return static_cast<int64_t>(trailer_.num_targets); }
  /// What bits per byte divides by: the bytes of text that the targets stand for.
  int64_t text_bytes() const { return static_cast<int64_t>(trailer_.text_bytes); }
  std::string tokenizer_name() const;
  std::string sources_digest() const;
  int64_t begin_id() const { return static_cast<int64_t>(trailer_.begin_id); }
  int64_t end_id() const { return static_cast<int64_t>(trailer_.end_id); }
  int64_t pad_id() const { return static_cast<int64_t>(trailer_.pad_id); }
  /// Bytes of text the id stands for. Not checked.
  int64_t byte_length(int64_t id) const { return byte_lengths_[id]; }
  /// Whether the ids are those of `tokenizer`.
  bool matches(const Tokenizer& tokenizer) const;

  int64_t num_tokens(int64_t document) const {
    return static_cast<int64_t>(offsets_[document + 1] - offsets_[document]);
  }
  /// Token `index` of a document; neither is checked.
  int64_t token(int64_t document, int64_t index) const {
    const uint64_t at = offsets_[document] + static_cast<uint64_t>(index);
    return trailer_.token_bytes == 2 ? int64_t{reinterpret_cast<const uint16_t*>(tokens_)[at]}
                                     : int64_t{reinterpret_cast<const uint32_t*>(tokens_)[at]};
  }
  /// Whether that token is a target; num_tokens(document) is the index of the end token.
  bool is_target(int64_t document, int64_t index) const {
    return targets_ == nullptr ||
           target_bit(targets_, offsets_[document] + static_cast<uint64_t>(document + index));
  }

 private:
  void locate_parts();
  void check_offsets() const;
  void check_tokens() const;

  MappedFile file_;
  Trailer trailer_;
  const std::byte* tokens_ = nullptr;
  const uint64_t* offsets_ = nullptr;
  const uint64_t* targets_ = nullptr;  // bits; nullptr = all tokens are targets
  const uint16_t* byte_lengths_ = nullptr;
};

}  // namespace braid
