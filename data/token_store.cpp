#include "data/token_store.h"

#include <algorithm>
#include <bit>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"
#include "core/interruption.h"

namespace braid {
namespace {

static_assert(std::endian::native == std::endian::little, "token stores are little-endian");

using Trailer = TokenStore::Trailer;

constexpr std::size_t kMagicSize = TokenStore::kMagic.size();
constexpr std::size_t kFromVersionOn = sizeof(Trailer) - offsetof(Trailer, version);

std::string until_zero(const std::array<char, 32>& characters) {
  return {characters.data(), ::strnlen(characters.data(), characters.size())};
}

bool is_magic(const void* bytes) {
  return std::memcmp(bytes, TokenStore::kMagic.data(), kMagicSize) == 0;
}

[[noreturn]] void fail_truncated(const MappedFile& file) {
  fail(file.path().string(),
       ": truncated token store of ",
       file.size(),
       " bytes; delete it to have it built again");
}

// In pieces, to look for signals between them.
uint64_t digest_of(const std::byte* bytes, std::size_t size) {
  constexpr std::size_t kPiece = 16 << 20;
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (std::size_t begin = 0; begin < size; begin += kPiece) {
    stop_if_interrupted();
    XXH3_64bits_update(&state, bytes + begin, std::min(kPiece, size - begin));
  }
  return XXH3_64bits_digest(&state);
}

void check_version(const MappedFile& file) {
  uint64_t version = 0;
  std::memcpy(&version, file.data() + file.size() - kFromVersionOn, sizeof(version));
  require(version == TokenStore::kVersion,
          file.path().string(),
          ": token store of version ",
          version,
          ", this program reads version ",
          TokenStore::kVersion,
          "; delete it to have it built again");
}

/// Everything that can be known without looking at the other parts.
Trailer verified_trailer(const MappedFile& file) {
  require(file.size() >= kMagicSize && is_magic(file.data()),
          file.path().string(),
          ": not a token store (it does not begin with ",
          TokenStore::kMagic,
          ")");
  if (file.size() < kMagicSize + kFromVersionOn ||
      !is_magic(file.data() + file.size() - kMagicSize)) {
    fail_truncated(file);
  }
  check_version(file);
  Trailer trailer;
  if (file.size() < kMagicSize + sizeof(trailer)) {
    fail_truncated(file);
  }
  std::memcpy(&trailer, file.data() + file.size() - sizeof(trailer), sizeof(trailer));
  const std::size_t digested = file.size() - sizeof(trailer) + offsetof(Trailer, digest);
  require(digest_of(file.data(), digested) == trailer.digest,
          file.path().string(),
          ": altered token store (its contents do not have the digest that was stored with them); "
          "delete it to have it built again");
  return trailer;
}

/// What a part takes in the file.
uint64_t padded(uint64_t bytes) {
  return (bytes + 7) / 8 * 8;
}

}  // namespace

// A right digest says that nothing changed since the file was written, not that its writer was
// ours: hence the checks of everything that is read.
TokenStore::TokenStore(const std::filesystem::path& path)
    : file_(path), trailer_(verified_trailer(file_)) {
  locate_parts();
  check_offsets();
  check_tokens();
}

void TokenStore::locate_parts() {
  const auto& [begin_id,
               end_id,
               pad_id,
               targets,
               end_targets,
               version,
               token_bytes,
               vocab_size,
               documents,
               tokens,
               text_bytes,
               name,
               sources,
               digest,
               magic] = trailer_;
  const uint64_t body = file_.size() - kMagicSize - sizeof(trailer_);
  // The bounds keep the sum below from overflowing.
  const bool possible = (token_bytes == 2 || token_bytes == 4) && documents >= 1 &&
                        documents < body / 8 && tokens <= body / token_bytes &&
                        vocab_size <= body / 2 && targets <= tokens && end_targets <= documents;
  const bool has_bits = targets < tokens || end_targets < documents;
  const uint64_t token_part = possible ? padded(tokens * token_bytes) : 0,
                 offset_part = possible ? (documents + 1) * 8 : 0,
                 target_part = possible && has_bits ? padded((tokens + documents + 7) / 8) : 0,
                 length_part = possible ? padded(vocab_size * 2) : 0;
  require(possible && token_part + offset_part + target_part + length_part == body,
          file_.path().string(),
          ": inconsistent token store: ",
          documents,
          " documents, ",
          tokens,
          " tokens of ",
          token_bytes,
          " bytes (",
          targets,
          " of them and ",
          end_targets,
          " end tokens targets) and ",
          vocab_size,
          " ids do not fill ",
          body,
          " bytes");
  tokens_ = file_.data() + kMagicSize;
  const std::byte* part = tokens_ + token_part;
  offsets_ = reinterpret_cast<const uint64_t*>(part);
  part += offset_part;
  targets_ = has_bits ? reinterpret_cast<const uint64_t*>(part) : nullptr;
  part += target_part;
  byte_lengths_ = reinterpret_cast<const uint16_t*>(part);
  for (const uint64_t id : {begin_id, end_id, pad_id}) {
    require(id < vocab_size,
            file_.path().string(),
            ": inconsistent token store: its special token ",
            id,
            " is outside a vocabulary of ",
            vocab_size);
  }
}

void TokenStore::check_offsets() const {
  const uint64_t documents = trailer_.num_documents;
  require(offsets_[0] == 0 && offsets_[documents] == trailer_.num_tokens,
          file_.path().string(),
          ": inconsistent token store: its documents do not span its tokens");
  // if, not require(): these loops are long, and its arguments would be made every time.
  for (uint64_t i = 0; i < documents; ++i) {
    if (offsets_[i] >= offsets_[i + 1]) {
      fail(file_.path().string(),
           ": inconsistent token store: document ",
           i,
           " ends at token ",
           offsets_[i + 1],
           " but begins at ",
           offsets_[i]);
    }
  }
}

void TokenStore::check_tokens() const {
  const auto vocab_size = static_cast<int64_t>(trailer_.vocab_size);
  uint64_t targets = 0, end_targets = 0, bytes = 0;
  for (int64_t document = 0; document < num_documents(); ++document) {
    const int64_t size = num_tokens(document);
    for (int64_t i = 0; i < size; ++i) {
      const int64_t id = token(document, i);
      if (id >= vocab_size) {
        fail(file_.path().string(),
             ": inconsistent token store: token ",
             offsets_[document] + static_cast<uint64_t>(i),
             " has id ",
             id,
             ", which is outside a vocabulary of ",
             vocab_size);
      }
      if (is_target(document, i)) {
        ++targets;
        bytes += static_cast<uint64_t>(byte_length(id));
      }
    }
    end_targets += is_target(document, size);
  }
  require(targets == trailer_.num_targets && end_targets == trailer_.num_end_targets,
          file_.path().string(),
          ": inconsistent token store: ",
          targets,
          " of its tokens and ",
          end_targets,
          " of its end tokens are targets, not ",
          trailer_.num_targets,
          " and ",
          trailer_.num_end_targets);
  require(bytes == trailer_.text_bytes,
          file_.path().string(),
          ": inconsistent token store: its targets stand for ",
          bytes,
          " bytes of text, not ",
          trailer_.text_bytes);
}

bool TokenStore::matches(const Tokenizer& tokenizer) const {
  return tokenizer_name() == tokenizer.name() &&
         static_cast<int64_t>(trailer_.vocab_size) == tokenizer.vocab_size() &&
         begin_id() == tokenizer.begin_id() && end_id() == tokenizer.end_id() &&
         pad_id() == tokenizer.pad_id();
}

std::string TokenStore::tokenizer_name() const {
  return until_zero(trailer_.tokenizer);
}

std::string TokenStore::sources_digest() const {
  return until_zero(trailer_.sources_digest);
}

}  // namespace braid
