#include "data/token_store_writer.h"

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>

#include "core/error.h"

namespace braid {

TokenStoreWriter::TokenStoreWriter(const std::filesystem::path& path,
                                   const Tokenizer& tokenizer,
                                   const std::string& sources_digest)
    : file_(path) {
  const std::string name = tokenizer.name();
  static_assert(Tokenizer::kLongestName == std::tuple_size_v<decltype(trailer_.tokenizer)>);
  require(name.size() <= Tokenizer::kLongestName,
          "tokenizer name '",
          name,
          "' is longer than ",
          Tokenizer::kLongestName,
          " bytes");
  trailer_.begin_id = static_cast<uint64_t>(tokenizer.begin_id());
  trailer_.end_id = static_cast<uint64_t>(tokenizer.end_id());
  trailer_.pad_id = static_cast<uint64_t>(tokenizer.pad_id());
  trailer_.version = TokenStore::kVersion;
  trailer_.token_bytes = tokenizer.vocab_size() <= int64_t{1} << 16 ? 2 : 4;
  trailer_.vocab_size = static_cast<uint64_t>(tokenizer.vocab_size());
  std::memcpy(trailer_.tokenizer.data(), name.data(), name.size());
  std::memcpy(
      trailer_.sources_digest.data(), sources_digest.data(), trailer_.sources_digest.size());
  std::memcpy(trailer_.magic.data(), TokenStore::kMagic.data(), trailer_.magic.size());
  for (int64_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const int64_t bytes = tokenizer.byte_length(id);
    require(bytes <= std::numeric_limits<uint16_t>::max(),
            "tokenizer '",
            name,
            "': id ",
            id,
            " stands for ",
            bytes,
            " bytes of text; a token store holds up to 65535");
    byte_lengths_.push_back(static_cast<uint16_t>(bytes));
  }
  XXH3_64bits_reset(&digest_);
  append(TokenStore::kMagic.data(), TokenStore::kMagic.size());
}

void TokenStoreWriter::add(const Document& document) {
  check(document);
  if (num_documents() == 1) {
    trailer_.holds_pairs = document.with_previous;
  }
  auto span = document.targets.begin();
  const auto add_target = [&](int64_t index) {
    while (span != document.targets.end() && span->end <= index) {
      ++span;
    }
    const bool target = span != document.targets.end() && span->begin <= index;
    add_weight(target ? span->weight : 1);
    targets_.add(target);
    return target;
  };
  int64_t index = 0;
  for (const int64_t id : document.ids) {
    append(&id, trailer_.token_bytes);  // the low bytes: little-endian
    if (add_target(index++)) {
      ++trailer_.num_targets;
      trailer_.text_bytes += byte_lengths_[static_cast<std::size_t>(id)];
    }
  }
  trailer_.num_end_targets += add_target(index);
  offsets_.push_back(offsets_.back() + document.ids.size());
}

// Of the next bit of targets_.
void TokenStoreWriter::add_weight(float weight) {
  if (weight != 1 && weights_.empty()) {
    weights_.assign(targets_.size(), 1);
    trailer_.has_weights = 1;
  }
  if (trailer_.has_weights == 1) {
    weights_.push_back(weight);
  }
}

void TokenStoreWriter::check(const Document& document) const {
  // The second document says what the store holds.
  const bool is_second_of_pair = num_documents() % 2 == 1 && trailer_.holds_pairs == 1;
  require(num_documents() == 1 || document.with_previous == is_second_of_pair,
          "[token store] document ",
          num_documents(),
          document.with_previous ? " belongs to the one before it, which is none of a pair"
                                 : " is a single one where the second of a pair was expected",
          "; preferences and other samples need sources of their own (a weight for each path)");
  const auto size = static_cast<int64_t>(document.ids.size());
  require(size > 0, "[token store] document ", num_documents(), " has no tokens");
  for (const int64_t id : document.ids) {
    if (id < 0 || id >= static_cast<int64_t>(byte_lengths_.size())) {
      fail("[token store] document ",
           num_documents(),
           " holds id ",
           id,
           ", which is outside a vocabulary of ",
           byte_lengths_.size());
    }
  }
  int64_t previous = 0;
  for (const auto& [begin, end, weight] : document.targets) {
    if (!(weight > 0 && std::isfinite(weight))) {
      fail("[token store] document ",
           num_documents(),
           ": target span ",
           begin,
           "..",
           end,
           " weighs ",
           weight,
           "; expected more than 0 (what is not to be learned is no target)");
    }
    if (begin < previous || end <= begin || end > size + 1) {
      fail("[token store] document ",
           num_documents(),
           ": target span ",
           begin,
           "..",
           end,
           " after ",
           previous,
           "; expected spans that are not empty, in order and disjoint, of a document of ",
           size,
           " tokens and its end token");
    }
    previous = end;
  }
}

void TokenStoreWriter::commit() {
  require(trailer_.holds_pairs == 0 || num_documents() % 2 == 0,
          "[token store] the last pair has one document; expected two");
  require(trailer_.num_targets > 0,
          "[token store] none of the ",
          offsets_.back(),
          " tokens of ",
          num_documents(),
          " documents is a target, so there is nothing to learn or to judge by");
  trailer_.num_documents = offsets_.size() - 1;
  trailer_.num_tokens = offsets_.back();
  pad();
  append(offsets_.data(), offsets_.size() * sizeof(uint64_t));
  append(targets_.words().data(), targets_.words().size() * sizeof(uint64_t));
  append(weights_.data(), weights_.size() * sizeof(float));
  pad();
  append(byte_lengths_.data(), byte_lengths_.size() * sizeof(uint16_t));
  pad();
  append(&trailer_, offsetof(TokenStore::Trailer, digest));
  flush();
  trailer_.digest = XXH3_64bits_digest(&digest_);
  file_.write(&trailer_.digest, sizeof(trailer_) - offsetof(TokenStore::Trailer, digest));
  file_.commit();
}

// A part of the file ends: fills it up to a multiple of 8 bytes.
void TokenStoreWriter::pad() {
  constexpr uint64_t kZero = 0;
  append(&kZero, (8 - written_ % 8) % 8);
}

void TokenStoreWriter::append(const void* bytes, std::size_t size) {
  buffer_.append(static_cast<const char*>(bytes), size);
  written_ += size;
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
