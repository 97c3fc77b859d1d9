#include <algorithm>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"
#include "data/byte_tokenizer.h"
#include "data/token_store.h"
#include "tests/fuzz/scratch_folder.h"
#include "tests/fuzz/targets.h"

namespace braid::testing {
namespace {

/// Gives the bytes the magics and the digest of a token store, so that the checks behind are
/// reached.
std::string signed_store(std::string_view bytes) {
  constexpr std::size_t kMagic = TokenStore::kMagic.size();
  constexpr std::size_t kAfterDigest =
      sizeof(TokenStore::Trailer) - offsetof(TokenStore::Trailer, digest);
  std::string store(bytes);
  if (store.size() < kMagic + sizeof(TokenStore::Trailer)) {
    return store;
  }
  store.replace(0, kMagic, TokenStore::kMagic);
  store.replace(store.size() - kMagic, kMagic, TokenStore::kMagic);
  const std::size_t digested = store.size() - kAfterDigest;
  const uint64_t digest = XXH3_64bits(store.data(), digested);
  std::memcpy(store.data() + digested, &digest, sizeof digest);
  return store;
}

void read_all(const TokenStore& store, const ByteTokenizer& tokenizer) {
  int64_t tokens = 0, bytes = 0;
  for (int64_t document = 0; document < store.num_documents(); ++document) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < store.num_tokens(document); ++i) {
      ids.push_back(store.token(document, i));
      bytes += store.byte_length(ids.back());
    }
    tokens += static_cast<int64_t>(ids.size());
    tokenizer.decode(ids);
  }
  if (tokens != store.num_tokens() || bytes != store.text_bytes()) {
    throw std::logic_error("an accepted store does not hold what it says");
  }
}

}  // namespace

bool read_token_store(std::string_view bytes) {
  static const ScratchFolder folder;
  const ByteTokenizer tokenizer;
  const auto path = folder.write("input.tokens", signed_store(bytes));
  try {
    read_all(TokenStore(path, tokenizer), tokenizer);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace braid::testing
