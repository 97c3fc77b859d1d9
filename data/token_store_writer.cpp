#include "data/token_store_writer.h"

#include <cstddef>
#include <cstring>

#include "core/error.h"

namespace braid {

TokenStoreWriter::TokenStoreWriter(const std::filesystem::path& path,
                                   const Tokenizer& tokenizer,
                                   const std::string& sources_digest)
    : file_(path), tokenizer_(tokenizer) {
  const std::string name = tokenizer.name();
  require(name.size() <= trailer_.tokenizer.size(),
          "tokenizer name '",
          name,
          "' is longer than ",
          trailer_.tokenizer.size(),
          " bytes");
  trailer_.version = TokenStore::kVersion;
  trailer_.token_bytes = tokenizer.vocab_size() <= int64_t{1} << 16 ? 2 : 4;
  trailer_.vocab_size = static_cast<uint64_t>(tokenizer.vocab_size());
  std::memcpy(trailer_.tokenizer.data(), name.data(), name.size());
  std::memcpy(
      trailer_.sources_digest.data(), sources_digest.data(), trailer_.sources_digest.size());
  std::memcpy(trailer_.magic.data(), TokenStore::kMagic.data(), trailer_.magic.size());
  XXH3_64bits_reset(&digest_);
  append(TokenStore::kMagic.data(), TokenStore::kMagic.size());
}

void TokenStoreWriter::add(std::string_view document) {
  const std::vector<int64_t> ids = tokenizer_.encode(document);
  for (const int64_t id : ids) {
    append(&id, trailer_.token_bytes);  // the low bytes: little-endian
  }
  offsets_.push_back(offsets_.back() + ids.size());
  trailer_.text_bytes += document.size();
}

void TokenStoreWriter::commit() {
  trailer_.num_documents = offsets_.size() - 1;
  trailer_.num_tokens = offsets_.back();
  constexpr uint64_t kZero = 0;
  append(&kZero, (8 - trailer_.num_tokens * trailer_.token_bytes % 8) % 8);
  append(offsets_.data(), offsets_.size() * sizeof(uint64_t));
  append(&trailer_, offsetof(TokenStore::Trailer, digest));
  flush();
  trailer_.digest = XXH3_64bits_digest(&digest_);
  file_.write(&trailer_.digest, sizeof(trailer_) - offsetof(TokenStore::Trailer, digest));
  file_.commit();
}

void TokenStoreWriter::append(const void* bytes, std::size_t size) {
  buffer_.append(static_cast<const char*>(bytes), size);
  if (buffer_.size() >= std::size_t{1} << 20) {
    flush();
  }
}

void TokenStoreWriter::flush() {
  XXH3_64bits_update(&digest_, buffer_.data(), buffer_.size());
  file_.write(buffer_);
  buffer_.clear();
}

}  // namespace braid
