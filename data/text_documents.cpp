#include "data/text_documents.h"

#include <atomic>
#include <string>
#include <utility>

#include <ATen/Parallel.h>

#include "data/store_documents.h"
#include "data/token_store.h"

namespace braid {
namespace {

constexpr std::size_t kReadAhead = std::size_t{1} << 20;  // bytes of text

/// Sources one after another.
class JoinedDocuments : public DocumentSource {
 public:
  explicit JoinedDocuments(std::vector<std::unique_ptr<DocumentSource>> parts)
      : parts_(std::move(parts)) {}

  bool next(Document& document) override {
    while (part_ < parts_.size() && !parts_[part_]->next(document)) {
      ++part_;
    }
    return part_ < parts_.size();
  }

  std::vector<std::string> notes() const override {
    std::vector<std::string> result;
    for (const auto& part : parts_) {
      const auto notes = part->notes();
      result.insert(result.end(), notes.begin(), notes.end());
    }
    return result;
  }

 private:
  std::vector<std::unique_ptr<DocumentSource>> parts_;
  std::size_t part_ = 0;
};

}  // namespace

Document text_document(std::string_view text, const Tokenizer& tokenizer) {
  Document document;
  document.ids = tokenizer.encode(text);
  document.targets = {{0, static_cast<int64_t>(document.ids.size()) + 1}};
  document.content_hash = content_hash(text);
  return document;
}

bool TextDocuments::next(Document& document) {
  if (given_ == ahead_.size()) {
    read_ahead();
  }
  if (ahead_.empty()) {
    return false;
  }
  document = std::move(ahead_[given_++]);
  return true;
}

void TextDocuments::read_ahead() {
  std::vector<std::string> texts;
  for (std::size_t bytes = 0; bytes < kReadAhead; bytes += texts.back().size()) {
    const auto text = reader_.next();
    if (!text) {
      break;
    }
    texts.emplace_back(*text);
  }
  ahead_ = std::vector<Document>(texts.size());
  given_ = 0;
  // One at a time, for lengths differ.
  std::atomic<std::size_t> next_text = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    for (std::size_t i = next_text++; i < texts.size(); i = next_text++) {
      ahead_[i] = text_document(texts[i], tokenizer_);
    }
  });
}

std::unique_ptr<DocumentSource> open_documents(const TextSource& source,
                                               const Tokenizer& tokenizer) {
  std::vector<std::unique_ptr<DocumentSource>> parts;
  TextSource texts = source;
  texts.paths.clear();
  const auto add_texts = [&] {
    if (!texts.paths.empty()) {
      parts.push_back(std::make_unique<TextDocuments>(texts, tokenizer));
      texts.paths.clear();
    }
  };
  for (const auto& path : source.paths) {
    if (is_token_store(path)) {
      add_texts();
      parts.push_back(std::make_unique<StoreDocuments>(path, tokenizer));
    } else {
      texts.paths.push_back(path);
    }
  }
  add_texts();
  return std::make_unique<JoinedDocuments>(std::move(parts));
}

}  // namespace braid
