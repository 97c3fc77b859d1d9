#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "data/document_store.h"
#include "data/tokenizer.h"

namespace braid {

/// A file of documents as token ids, with the tokens that are targets. It needs no tokenizer: what
/// the loader and bits per byte ask of one is in the file.
///
/// Documents are read from the file when they are asked for, by any thread. A file that was cut
/// short or altered since it was opened is an Error with its path; one that was replaced or removed
/// stays readable.
///
/// File, little-endian, each part filled up with zeros to a multiple of 8 bytes:
///   "BRAIDTOK"
///   the tokens of all documents, 2 or 4 bytes each
///   num_documents + 1 token offsets, uint64
///   target bits: for each document one bit a token and one for its end token (target_bits.h);
///     nothing where all of them are targets
///   target weights: float32, one for each of those bits; nothing where all targets weigh 1
///   bytes of text of each id, vocab_size numbers of 2 bytes
///   the trailer
class TokenStore : public DocumentStore {
 public:
  /// From `version` on, every version of the format ends in the same way.
  struct Trailer {
    uint64_t begin_id, end_id, pad_id;
    uint64_t num_targets;      ///< of the documents' tokens
    uint64_t num_end_targets;  ///< documents whose end token is a target
    uint64_t has_weights;      ///< 1 where targets have weights, else 0
    uint64_t holds_pairs;      ///< 1 where documents 2 i and 2 i + 1 belong together, else 0
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
  static constexpr uint64_t kVersion = 3;

  /// Reads all of the file once. Throws Error with the path for a file that is not a
  /// token store, of another version, truncated, altered or inconsistent.
  explicit TokenStore(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const Trailer& trailer() const { return trailer_; }
  std::string name() const final { return path().string(); }
  std::string sources_digest() const final;
  std::string tokenizer_name() const;
  int64_t num_documents() const final { return static_cast<int64_t>(trailer_.num_documents); }
  int64_t num_tokens() const final { return static_cast<int64_t>(trailer_.num_tokens); }
  int64_t num_targets() const final { return static_cast<int64_t>(trailer_.num_targets); }
  int64_t text_bytes() const final { return static_cast<int64_t>(trailer_.text_bytes); }
  int64_t begin_id() const final { return static_cast<int64_t>(trailer_.begin_id); }
  int64_t end_id() const final { return static_cast<int64_t>(trailer_.end_id); }
  int64_t pad_id() const final { return static_cast<int64_t>(trailer_.pad_id); }
  int64_t byte_length(int64_t id) const final {
    return byte_lengths_[static_cast<std::size_t>(id)];
  }
  bool has_weights() const final { return trailer_.has_weights == 1; }
  int64_t documents_per_sample() const final { return trailer_.holds_pairs == 1 ? 2 : 1; }
  /// Whether every token and every end token is a target of weight 1, as of plain text.
  bool is_plain() const { return !has_bits_ && !has_weights() && documents_per_sample() == 1; }
  /// Whether the ids are those of `tokenizer`.
  bool matches(const Tokenizer& tokenizer) const;
  /// Throws Error with both names unless they are.
  void require_match(const Tokenizer& tokenizer) const;

  using DocumentStore::tokens;
  int64_t num_tokens(int64_t document) const final;
  std::vector<int64_t> tokens(int64_t document, int64_t begin, int64_t end) const final;
  std::vector<uint8_t> targets(int64_t document, int64_t begin, int64_t end) const final;
  std::vector<float> target_weights(int64_t document, int64_t begin, int64_t end) const final;

 private:
  struct Extent {
    uint64_t begin, end;  // of a document's tokens among all tokens
  };

  void locate_parts();
  void check_offsets() const;
  void check_tokens() const;
  Extent extent(int64_t document) const;
  [[noreturn]] void fail_changed() const;

  InputFile file_;
  Trailer trailer_;
  // Where the parts begin in the file.
  uint64_t offsets_ = 0, targets_ = 0, weights_ = 0;
  bool has_bits_ = false;  // without them all tokens are targets
  std::vector<uint16_t> byte_lengths_;
};

/// Whether a path is a file that begins as a token store does. Of what cannot be read: no.
bool is_token_store(const std::filesystem::path& path);

}  // namespace braid
