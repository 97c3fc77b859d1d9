#include "data/token_store.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"
#include "core/interruption.h"
#include "data/target_bits.h"

namespace braid {
namespace {

static_assert(std::endian::native == std::endian::little, "token stores are little-endian");

using Trailer = TokenStore::Trailer;

constexpr std::size_t kMagicSize = TokenStore::kMagic.size();
constexpr std::size_t kFromVersionOn = sizeof(Trailer) - offsetof(Trailer, version);

std::string until_zero(const std::array<char, 32>& characters) {
  return {characters.data(), ::strnlen(characters.data(), characters.size())};
}

bool is_magic(const InputFile& file, std::size_t position) {
  std::array<char, kMagicSize> bytes{};
  file.read_at(position, bytes.data(), bytes.size());
  return std::string_view(bytes.data(), bytes.size()) == TokenStore::kMagic;
}

[[noreturn]] void fail_truncated(const InputFile& file) {
  fail(file.path().string(),
       ": truncated token store of ",
       file.size(),
       " bytes; delete it to have it built again");
}

void check_version(const InputFile& file) {
  uint64_t version = 0;
  file.read_at(file.size() - kFromVersionOn, &version, sizeof(version));
  require(version == TokenStore::kVersion,
          file.path().string(),
          ": token store of version ",
          version,
          ", this program reads version ",
          TokenStore::kVersion,
          "; delete it to have it built again");
}

uint64_t digest_of_beginning(const InputFile& file, std::size_t size) {
  std::vector<char> piece(std::min(size, std::size_t{1} << 20));
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (std::size_t begin = 0; begin < size; begin += piece.size()) {
    stop_if_interrupted();
    const std::size_t length = std::min(piece.size(), size - begin);
    file.read_at(begin, piece.data(), length);
    XXH3_64bits_update(&state, piece.data(), length);
  }
  return XXH3_64bits_digest(&state);
}

/// Everything that can be known without looking at the other parts.
Trailer verified_trailer(const InputFile& file) {
  require(file.size() >= kMagicSize && is_magic(file, 0),
          file.path().string(),
          ": not a token store (it does not begin with ",
          TokenStore::kMagic,
          ")");
  if (file.size() < kMagicSize + kFromVersionOn || !is_magic(file, file.size() - kMagicSize)) {
    fail_truncated(file);
  }
  check_version(file);
  Trailer trailer;
  if (file.size() < kMagicSize + sizeof(trailer)) {
    fail_truncated(file);
  }
  file.read_at(file.size() - sizeof(trailer), &trailer, sizeof(trailer));
  const std::size_t digested = file.size() - sizeof(trailer) + offsetof(Trailer, digest);
  require(digest_of_beginning(file, digested) == trailer.digest,
          file.path().string(),
          ": altered token store (its contents do not have the digest that was stored with them); "
          "delete it to have it built again");
  return trailer;
}

/// Numbers of a file one after another, read in pieces.
template <class T>
class Sequence {
 public:
  Sequence(const InputFile& file, uint64_t position, uint64_t size)
      : file_(file), position_(position), left_(size) {}

  T next() {
    if (at_ == piece_.size()) {
      require(left_ > 0, file_.path().string(), ": was altered while it was read");
      piece_.resize(std::min<uint64_t>(left_, std::size_t{1} << 15));
      file_.read_at(position_, piece_.data(), piece_.size() * sizeof(T));
      position_ += piece_.size() * sizeof(T);
      left_ -= piece_.size();
      at_ = 0;
    }
    return piece_[at_++];
  }

 private:
  const InputFile& file_;
  uint64_t position_, left_;
  std::vector<T> piece_;
  std::size_t at_ = 0;
};

bool is_target_weight(float weight) {
  return weight > 0 && std::isfinite(weight);
}

template <class T>
std::vector<T> numbers_at(const InputFile& file, uint64_t position, uint64_t size) {
  std::vector<T> result(size);
  file.read_at(position, result.data(), size * sizeof(T));
  return result;
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
               weighted,
               pairs,
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
                        vocab_size <= body / 2 && targets <= tokens && end_targets <= documents &&
                        weighted <= 1 && pairs <= 1 && (pairs == 0 || documents % 2 == 0);
  const bool has_bits = targets < tokens || end_targets < documents;
  const uint64_t token_part = possible ? padded(tokens * token_bytes) : 0,
                 offset_part = possible ? (documents + 1) * 8 : 0,
                 target_part = possible && has_bits ? padded((tokens + documents + 7) / 8) : 0,
                 weight_part = possible && weighted == 1 ? padded((tokens + documents) * 4) : 0,
                 length_part = possible ? padded(vocab_size * 2) : 0;
  require(possible && token_part + offset_part + target_part + weight_part + length_part == body,
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
  offsets_ = kMagicSize + token_part;
  targets_ = offsets_ + offset_part;
  has_bits_ = has_bits;
  weights_ = targets_ + target_part;
  byte_lengths_ = numbers_at<uint16_t>(file_, weights_ + weight_part, vocab_size);
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
  Sequence<uint64_t> offsets(file_, offsets_, documents + 1);
  const uint64_t first = offsets.next();
  uint64_t begin = first;
  for (uint64_t document = 0; document < documents; ++document) {
    const uint64_t end = offsets.next();
    // if, not require(): these loops are long, and its arguments would be made every time.
    if (begin >= end) {
      fail(file_.path().string(),
           ": inconsistent token store: document ",
           document,
           " ends at token ",
           end,
           " but begins at ",
           begin);
    }
    begin = end;
  }
  require(first == 0 && begin == trailer_.num_tokens,
          file_.path().string(),
          ": inconsistent token store: its documents do not span its tokens");
}

// All documents, in one pass over their parts.
void TokenStore::check_tokens() const {
  const uint64_t documents = trailer_.num_documents, tokens = trailer_.num_tokens;
  Sequence<uint64_t> offsets(file_, offsets_, documents + 1);
  Sequence<uint16_t> narrow(file_, kMagicSize, trailer_.token_bytes == 2 ? tokens : 0);
  Sequence<uint32_t> wide(file_, kMagicSize, trailer_.token_bytes == 4 ? tokens : 0);
  Sequence<uint64_t> words(file_, targets_, has_bits_ ? (tokens + documents + 63) / 64 : 0);
  Sequence<float> weights(file_, weights_, has_weights() ? tokens + documents : 0);
  uint64_t word = 0, index = 0;
  const auto next_is_target = [&] {
    if (has_bits_ && index % 64 == 0) {
      word = words.next();
    }
    if (const float weight = has_weights() ? weights.next() : 1; !is_target_weight(weight)) {
      fail(file_.path().string(),
           ": inconsistent token store: target ",
           index,
           " weighs ",
           weight,
           "; expected more than 0");
    }
    const uint64_t bit = index++ % 64;
    return !has_bits_ || target_bit(&word, bit);
  };
  uint64_t begin = offsets.next(), targets = 0, end_targets = 0, bytes = 0;
  for (uint64_t document = 0; document < documents; ++document) {
    const uint64_t end = offsets.next();
    for (uint64_t i = begin; i < end; ++i) {
      const uint64_t id = trailer_.token_bytes == 2 ? narrow.next() : wide.next();
      if (id >= trailer_.vocab_size) {
        fail(file_.path().string(),
             ": inconsistent token store: token ",
             i,
             " has id ",
             id,
             ", which is outside a vocabulary of ",
             trailer_.vocab_size);
      }
      if (next_is_target()) {
        ++targets;
        bytes += byte_lengths_[id];
      }
    }
    end_targets += next_is_target();
    begin = end;
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

void TokenStore::fail_changed() const {
  fail(file_.path().string(),
       ": was altered while it was in use; delete it to have it built again");
}

TokenStore::Extent TokenStore::extent(int64_t document) const {
  Extent result{};
  file_.read_at(offsets_ + static_cast<uint64_t>(document) * 8, &result, sizeof(result));
  if (result.begin >= result.end || result.end > trailer_.num_tokens) {
    fail_changed();
  }
  return result;
}

int64_t TokenStore::num_tokens(int64_t document) const {
  const auto [begin, end] = extent(document);
  return static_cast<int64_t>(end - begin);
}

std::vector<int64_t> TokenStore::tokens(int64_t document, int64_t begin, int64_t end) const {
  const auto size = static_cast<uint64_t>(end - begin);
  const uint64_t position =
      kMagicSize + (extent(document).begin + static_cast<uint64_t>(begin)) * trailer_.token_bytes;
  std::vector<int64_t> ids(size);
  const auto take = [&](const auto& numbers) {
    for (std::size_t i = 0; i < size; ++i) {
      if (numbers[i] >= trailer_.vocab_size) {
        fail_changed();
      }
      ids[i] = numbers[i];
    }
  };
  if (trailer_.token_bytes == 2) {
    take(numbers_at<uint16_t>(file_, position, size));
  } else {
    take(numbers_at<uint32_t>(file_, position, size));
  }
  return ids;
}

std::vector<uint8_t> TokenStore::targets(int64_t document, int64_t begin, int64_t end) const {
  std::vector<uint8_t> result(static_cast<std::size_t>(end - begin), 1);
  if (!has_bits_ || result.empty()) {
    return result;
  }
  // Each document before this one has a bit more than tokens.
  const uint64_t first = extent(document).begin + static_cast<uint64_t>(document + begin);
  const uint64_t last = first + result.size() - 1;
  const auto words =
      numbers_at<uint64_t>(file_, targets_ + first / 64 * 8, last / 64 - first / 64 + 1);
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = target_bit(words.data(), first % 64 + i);
  }
  return result;
}

std::vector<float> TokenStore::target_weights(int64_t document, int64_t begin, int64_t end) const {
  const auto size = static_cast<std::size_t>(end - begin);
  if (!has_weights() || size == 0) {
    return DocumentStore::target_weights(document, begin, end);
  }
  const uint64_t first = extent(document).begin + static_cast<uint64_t>(document + begin);
  auto weights = numbers_at<float>(file_, weights_ + first * sizeof(float), size);
  if (!std::ranges::all_of(weights, is_target_weight)) {
    fail_changed();
  }
  return weights;
}

bool TokenStore::matches(const Tokenizer& tokenizer) const {
  return tokenizer_name() == tokenizer.name() &&
         static_cast<int64_t>(trailer_.vocab_size) == tokenizer.vocab_size() &&
         begin_id() == tokenizer.begin_id() && end_id() == tokenizer.end_id() &&
         pad_id() == tokenizer.pad_id();
}

void TokenStore::require_match(const Tokenizer& tokenizer) const {
  require(matches(tokenizer),
          path().string(),
          ": was made by the tokenizer '",
          tokenizer_name(),
          "', and here it is '",
          tokenizer.name(),
          "'; make it again from its texts: braid tokenize");
}

std::string TokenStore::tokenizer_name() const {
  return until_zero(trailer_.tokenizer);
}

std::string TokenStore::sources_digest() const {
  return until_zero(trailer_.sources_digest);
}

bool is_token_store(const std::filesystem::path& path) {
  std::error_code unreadable;
  if (!std::filesystem::is_regular_file(path, unreadable)) {
    return false;
  }
  const InputFile file(path);
  return file.size() >= kMagicSize && is_magic(file, 0);
}

}  // namespace braid
