#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_config.h"

namespace braid {

/// How decode() renders ids that do not stand for text.
enum class SpecialTokens { kDrop, kSpell };

/// Text to ids and back. Special tokens (begin, end, padding, chat) never come out of encode():
/// text that spells one is encoded as the text it is.
class Tokenizer {
 public:
  static constexpr std::size_t kLongestName = 32;

  virtual ~Tokenizer() = default;

  /// Identifies the tokenizer: token stores are marked with it, and equal names mean equal ids. At
  /// most kLongestName bytes; that of a tokenizer read from a file ends in the file's digest.
  virtual std::string name() const = 0;
  /// Ids are 0..vocab_size()-1.
  virtual int64_t vocab_size() const = 0;
  virtual int64_t begin_id() const = 0;
  virtual int64_t end_id() const = 0;
  virtual int64_t pad_id() const = 0;

  virtual std::vector<int64_t> encode(std::string_view text) const = 0;
  /// The ids of a text in which special tokens are spelled out and meant.
  virtual std::vector<int64_t> encode_spelled(std::string_view text) const = 0;
  /// The id of the special token of this spelling; nullopt where there is none.
  virtual std::optional<int64_t> special_id(std::string_view spelling) const = 0;
  /// Throws Error for an id outside the vocabulary.
  virtual std::string decode(const std::vector<int64_t>& ids,
                             SpecialTokens special = SpecialTokens::kDrop) const = 0;
  /// Number of bytes of text the id stands for; 0 for special tokens.
  virtual int64_t byte_length(int64_t id) const = 0;
};

/// Throws ConfigError (key "tokenizer.file") for what it cannot make.
std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerConfig& config);

}  // namespace braid
