#include "data/token_store_build.h"

#include <cstring>
#include <iomanip>
#include <limits>
#include <string>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"
#include "core/file.h"
#include "data/token_store.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

class TokenStoreWriter {
 public:
  TokenStoreWriter(const fs::path& path,
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

  void add(std::string_view document) {
    const std::vector<int64_t> ids = tokenizer_.encode(document);
    for (const int64_t id : ids) {
      append(&id, trailer_.token_bytes);  // the low bytes: little-endian
    }
    offsets_.push_back(offsets_.back() + ids.size());
    trailer_.text_bytes += document.size();
  }

  uint64_t num_documents() const { return offsets_.size() - 1; }

  void commit() {
    trailer_.num_documents = num_documents();
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

 private:
  void append(const void* bytes, std::size_t size) {
    buffer_.append(static_cast<const char*>(bytes), size);
    if (buffer_.size() >= std::size_t{1} << 20) {
      flush();
    }
  }

  void flush() {
    XXH3_64bits_update(&digest_, buffer_.data(), buffer_.size());
    file_.write(buffer_);
    buffer_.clear();
  }

  AtomicFile file_;
  const Tokenizer& tokenizer_;
  TokenStore::Trailer trailer_{};
  std::vector<uint64_t> offsets_ = {0};
  std::string buffer_;
  XXH3_state_t digest_;
};

bool has_validation(const Corpus& corpus) {
  return !corpus.validation.paths.empty() || corpus.validation_fraction > 0;
}

/// Changes whenever the stores would.
std::string digest_of(const Corpus& corpus, const Tokenizer& tokenizer, const CorpusFiles& files) {
  std::ostringstream manifest;
  manifest << TokenStore::kVersion << ' ' << tokenizer.name() << ' ' << tokenizer.vocab_size()
           << ' ' << std::setprecision(std::numeric_limits<double>::max_digits10)
           << corpus.validation_fraction << '\n';
  const auto add = [&](const TextSource& source) {
    manifest << source.document_separator << '\n';
    for (const fs::path& file : text_files(source)) {
      for (const fs::path& output : {files.training, files.validation, files.validation_text}) {
        require(fs::weakly_canonical(file) != fs::weakly_canonical(output),
                output.string(),
                ": would overwrite a text the corpus is made of; keep the corpus in a folder of "
                "its own");
      }
      manifest << xxh3_128_of_file(file) << '\n';
    }
  };
  add(corpus.training);
  if (!corpus.validation.paths.empty()) {
    add(corpus.validation);
  }
  return xxh3_128(manifest.str());
}

bool is_current(const fs::path& path, const Tokenizer& tokenizer, const std::string& digest) {
  if (!fs::exists(path)) {
    return false;
  }
  {
    const MappedFile file(path);
    const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
    require(bytes.starts_with(TokenStore::kMagic),
            path.string(),
            ": is in the way of a token store but is none; move it or choose another place");
  }
  try {
    return TokenStore(path, tokenizer).sources_digest() == digest;
  } catch (const Error&) {
    return false;  // damaged or of another tokenizer; its text is at hand, so it is made anew
  }
}

void write_stores(const Corpus& corpus,
                  const Tokenizer& tokenizer,
                  const CorpusFiles& files,
                  const std::string& digest) {
  TokenStoreWriter training(files.training, tokenizer, digest);
  if (!has_validation(corpus)) {
    for_each_document(corpus.training, [&](std::string_view document) { training.add(document); });
    require(training.num_documents() > 0,
            corpus.training.paths[0].string(),
            ": the training corpus is empty (nothing but white space)");
    training.commit();
    return;
  }
  TokenStoreWriter validation(files.validation, tokenizer, digest);
  for_each_document(corpus.training, [&](std::string_view document) {
    (is_validation_document(document, corpus.validation_fraction) ? validation : training)
        .add(document);
  });
  const uint64_t found = training.num_documents() + validation.num_documents();
  require(found > 0,
          corpus.training.paths[0].string(),
          ": the training corpus is empty (nothing but white space)");
  if (!corpus.validation.paths.empty()) {
    for_each_document(corpus.validation,
                      [&](std::string_view document) { validation.add(document); });
    require(validation.num_documents() > 0,
            corpus.validation.paths[0].string(),
            ": the validation corpus is empty (nothing but white space)");
  }
  require(training.num_documents() > 0 && validation.num_documents() > 0,
          corpus.training.paths[0].string(),
          ": a validation fraction of ",
          corpus.validation_fraction,
          " puts ",
          validation.num_documents(),
          " of the ",
          found,
          found == 1 ? " document" : " documents",
          " into validation, and neither side may be empty: change the fraction, give a document "
          "separator, or "
          "name validation files");
  training.commit();
  validation.commit();
}

void write_validation_text(const TokenStore& store,
                           const Tokenizer& tokenizer,
                           const fs::path& path) {
  std::string text;
  std::vector<int64_t> ids;
  for (int64_t document = 0; document < store.num_documents(); ++document) {
    ids.resize(static_cast<std::size_t>(store.num_tokens(document)));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ids[i] = store.token(document, static_cast<int64_t>(i));
    }
    text += tokenizer.decode(ids);
  }
  if (!fs::exists(path) || read_file(path) != text) {
    write_file_atomically(path, text);
  }
}

}  // namespace

bool build_token_stores(const Corpus& corpus,
                        const Tokenizer& tokenizer,
                        const CorpusFiles& files) {
  const double fraction = corpus.validation_fraction;
  require(0 <= fraction && fraction < 1,
          "the validation fraction must be at least 0 and below 1, got ",
          fraction);
  require(fraction == 0 || corpus.validation.paths.empty(),
          "a validation fraction (",
          fraction,
          ") and validation files were both given; choose one");
  const std::string digest = digest_of(corpus, tokenizer, files);
  const bool validation = has_validation(corpus);
  const bool training_is_current = is_current(files.training, tokenizer, digest);
  const bool validation_is_current = !validation || is_current(files.validation, tokenizer, digest);
  const bool current = training_is_current && validation_is_current;
  if (!current) {
    write_stores(corpus, tokenizer, files, digest);
  }
  if (validation) {
    write_validation_text(
        TokenStore(files.validation, tokenizer), tokenizer, files.validation_text);
  }
  return !current;
}

}  // namespace braid
