#pragma once
// Texts to ids ahead of time: what became of them, and rows to compare with other programs.
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "data/text_source.h"
#include "data/token_store.h"
#include "data/tokenizer.h"

namespace braid {

/// What texts became. Begin and end tokens around documents are not counted.
struct TokenStatistics {
  int64_t documents = 0;
  int64_t tokens = 0;
  int64_t special = 0;     ///< of the tokens: those that stand for no text
  int64_t text_bytes = 0;  ///< that the tokens stand for
  int64_t longest = 0;     ///< tokens of the longest document

  /// Adds a document. `byte_length`: of an id, as Tokenizer has it.
  void add(const std::vector<int64_t>& ids, const std::function<int64_t(int64_t)>& byte_length);
};

TokenStatistics statistics_of(const TokenStore& store);

/// Writes each document of a source as a line {"text": ..., "ids": [...]}. Bytes that are no UTF-8
/// become U+FFFD in `text`, special tokens are spelled out. Appends to `notes` what the source
/// notes. Throws as open_documents() does, and Error for a source without documents.
TokenStatistics write_token_rows(const TextSource& source,
                                 const Tokenizer& tokenizer,
                                 const std::function<void(std::string_view)>& write,
                                 std::vector<std::string>& notes);

}  // namespace braid
