#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/added_tokens.h"
#include "data/bpe_merges.h"
#include "data/pattern_splitter.h"

namespace braid {

/// A Hugging Face tokenizer.json of byte-level BPE, with ids instead of spellings.
struct TokenizerJson {
  std::vector<std::string> entries;    ///< the bytes each id stands for; empty = no such id
  std::array<uint32_t, 256> byte_ids;  ///< the entry of each single byte
  std::vector<BpeMerge> merges;        ///< by rank
  bool ignore_merges = false;          ///< a piece that is an entry is not merged
  std::vector<AddedToken> added;
  std::vector<PatternSplitter::Pattern> patterns;  ///< in the order in which they cut
};

/// Padding, truncation and templates of special tokens in the file are not used: rows and the
/// tokens around documents are the loader's. Throws Error that begins with `name` and the JSON
/// path, for what is malformed and, by its name, for what is not supported: other models than BPE
/// over bytes, normalizers, other pre-tokenizers than isolated splits before ByteLevel.
TokenizerJson parse_tokenizer_json(std::string_view bytes, const std::string& name);

}  // namespace braid
