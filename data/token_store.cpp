#include "data/token_store.h"

#include <bit>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"

namespace braid {
namespace {

static_assert(std::endian::native == std::endian::little, "token stores are little-endian");

std::string until_zero(const std::array<char, 32>& characters) {
  return {characters.data(), ::strnlen(characters.data(), characters.size())};
}

bool is_magic(const void* bytes) {
  return std::memcmp(bytes, TokenStore::kMagic.data(), TokenStore::kMagic.size()) == 0;
}

/// Everything that can be known without looking at the tokens.
TokenStore::Trailer verified_trailer(const MappedFile& file) {
  const std::string path = file.path().string();
  constexpr std::size_t kMagicSize = TokenStore::kMagic.size();
  require(file.size() >= kMagicSize && is_magic(file.data()),
          path,
          ": not a token store (it does not begin with ",
          TokenStore::kMagic,
          ")");
  TokenStore::Trailer trailer;
  require(file.size() >= kMagicSize + sizeof(trailer),
          path,
          ": truncated token store of ",
          file.size(),
          " bytes; delete it to have it built again");
  const std::byte* end = file.data() + file.size();
  std::memcpy(&trailer, end - sizeof(trailer), sizeof(trailer));
  require(is_magic(trailer.magic.data()),
          path,
          ": truncated token store (its last bytes are missing); delete it to have it built again");
  require(trailer.version == TokenStore::kVersion,
          path,
          ": token store of version ",
          trailer.version,
          ", this program reads version ",
          TokenStore::kVersion,
          "; delete it to have it built again");
  const std::size_t digested =
      file.size() - sizeof(trailer) + offsetof(TokenStore::Trailer, digest);
  require(XXH3_64bits(file.data(), digested) == trailer.digest,
          path,
          ": altered token store (its contents do not have the digest that was stored with them); "
          "delete "
          "it to have it built again");
  return trailer;
}

}  // namespace

TokenStore::TokenStore(const std::filesystem::path& path, const Tokenizer& tokenizer)
    : file_(path),
      trailer_(verified_trailer(file_)),
      begin_id_(tokenizer.begin_id()),
      end_id_(tokenizer.end_id()),
      pad_id_(tokenizer.pad_id()) {
  const auto [version,
              token_bytes,
              vocab_size,
              documents,
              tokens,
              text_bytes,
              name,
              sources,
              digest,
              magic] = trailer_;
  require(until_zero(name) == tokenizer.name() &&
              static_cast<int64_t>(vocab_size) == tokenizer.vocab_size(),
          path.string(),
          ": made by the tokenizer '",
          until_zero(name),
          "' with ",
          vocab_size,
          " ids, but the tokenizer in use is '",
          tokenizer.name(),
          "' with ",
          tokenizer.vocab_size());

  // A right digest says that nothing changed since the file was written, not that its writer was
  // ours.
  const uint64_t body = file_.size() - kMagic.size() - sizeof(trailer_);
  const bool sizes_fit = (token_bytes == 2 || token_bytes == 4) && documents >= 1 &&
                         documents < body / 8 && tokens <= body / token_bytes &&
                         (tokens * token_bytes + 7) / 8 * 8 + (documents + 1) * 8 == body;
  require(sizes_fit,
          path.string(),
          ": inconsistent token store: ",
          documents,
          " documents and ",
          tokens,
          " tokens of ",
          token_bytes,
          " bytes do not fill ",
          body,
          " bytes");
  tokens_ = file_.data() + kMagic.size();
  offsets_ = reinterpret_cast<const uint64_t*>(tokens_ + body - (documents + 1) * 8);
  require(offsets_[0] == 0 && offsets_[documents] == tokens,
          path.string(),
          ": inconsistent token store: its documents do not span its tokens");
  // if, not require(): these loops are long, and its arguments would be made every time.
  for (uint64_t i = 0; i < documents; ++i) {
    if (offsets_[i] >= offsets_[i + 1]) {
      fail(path.string(),
           ": inconsistent token store: document ",
           i,
           " ends at token ",
           offsets_[i + 1],
           " but begins at ",
           offsets_[i]);
    }
  }
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    byte_lengths_.push_back(tokenizer.byte_length(id));
  }
  const auto num_ids = static_cast<int64_t>(byte_lengths_.size());
  uint64_t bytes = 0;
  for (uint64_t i = 0; i < tokens; ++i) {
    const int64_t id = token(0, static_cast<int64_t>(i));
    if (id >= num_ids || byte_length(id) == 0) {
      fail(path.string(),
           ": inconsistent token store: token ",
           i,
           " has id ",
           id,
           ", which stands for no text in a vocabulary of ",
           vocab_size);
    }
    bytes += static_cast<uint64_t>(byte_length(id));
  }
  require(bytes == text_bytes,
          path.string(),
          ": inconsistent token store: its tokens stand for ",
          bytes,
          " bytes of text, not ",
          text_bytes);
}

std::string TokenStore::sources_digest() const {
  return until_zero(trailer_.sources_digest);
}

}  // namespace braid
