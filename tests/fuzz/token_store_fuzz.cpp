#include <algorithm>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"
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

void read_all(const TokenStore& store) {
  int64_t tokens = 0, targets = 0, bytes = 0;
  for (int64_t document = 0; document < store.num_documents(); ++document) {
    const int64_t size = store.num_tokens(document);
    const auto ids = store.tokens(document);
    const auto is_target = store.targets(document, 0, size + 1);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      targets += is_target[i];
      bytes += is_target[i] != 0 ? store.byte_length(ids[i]) : 0;
    }
    tokens += size;
  }
  if (tokens != store.num_tokens() || targets != store.num_targets() ||
      bytes != store.text_bytes()) {
    throw std::logic_error("an accepted store does not hold what it says");
  }
}

}  // namespace

bool read_token_store(std::string_view bytes) {
  static const ScratchFolder folder;
  const auto path = folder.write("input.tokens", signed_store(bytes));
  try {
    read_all(TokenStore(path));
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace braid::testing
