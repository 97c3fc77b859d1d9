#include "data/text_documents.h"

#include <atomic>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>

#include "data/sample_documents.h"
#include "data/store_documents.h"

namespace braid {
namespace {

constexpr std::size_t kReadAhead = std::size_t{1} << 20;  // bytes of text

using OpenPart = std::function<std::unique_ptr<DocumentSource>()>;

/// Sources one after another, one open at a time.
class JoinedDocuments : public DocumentSource {
 public:
  explicit JoinedDocuments(std::vector<OpenPart> parts, std::vector<std::string> notes = {})
      : parts_(std::move(parts)), notes_(std::move(notes)) {}

  bool next(Document& document) override {
    while (open_ || opened_ < parts_.size()) {
      if (!open_) {
        open_ = parts_[opened_++]();
      }
      if (open_->next(document)) {
        return true;
      }
      notes_ = notes();
      open_.reset();
    }
    return false;
  }

  std::vector<std::string> notes() const override {
    std::vector<std::string> result = notes_;
    if (open_) {
      const auto more = open_->notes();
      result.insert(result.end(), more.begin(), more.end());
    }
    return result;
  }

 private:
  std::vector<OpenPart> parts_;
  std::vector<std::string> notes_;  // of the parts that were read
  std::size_t opened_ = 0;
  std::unique_ptr<DocumentSource> open_;
};

/// The first samples of a source.
class FirstDocuments : public DocumentSource {
 public:
  FirstDocuments(std::unique_ptr<DocumentSource> all, int64_t samples)
      : all_(std::move(all)), left_(samples) {}

  bool next(Document& document) override {
    if (left_ < 0 || !all_->next(document)) {
      return false;
    }
    left_ -= document.with_previous ? 0 : 1;
    return left_ >= 0;  // a rejected answer still belongs to the last sample
  }

  std::vector<std::string> notes() const override { return all_->notes(); }

 private:
  std::unique_ptr<DocumentSource> all_;
  int64_t left_;
};

/// Path `i` of a source alone.
std::unique_ptr<DocumentSource> open_path(const TextSource& source,
                                          std::size_t i,
                                          const Tokenizer& tokenizer) {
  const auto first_of =
      [&](std::unique_ptr<DocumentSource> all) -> std::unique_ptr<DocumentSource> {
    const int64_t most = source.of_path(i).max_samples;
    if (most > 0) {
      return std::make_unique<FirstDocuments>(std::move(all), most);
    }
    return all;
  };
  if (is_token_store(source.paths[i])) {
    return first_of(std::make_unique<StoreDocuments>(source.paths[i], tokenizer));
  }
  const TextFiles listed = text_files(source.paths[i]);
  TextSource texts = source;
  texts.paths = {source.paths[i]};
  texts.of_paths.clear();
  std::vector<OpenPart> parts;
  bool only_text = true;
  for (const auto& file : listed.files) {
    const auto format = format_of(file, source.format_of_path(i), source.text_key).format;
    only_text = only_text && format == SampleFormat::kText;
    parts.push_back([=, &tokenizer]() -> std::unique_ptr<DocumentSource> {
      if (format != SampleFormat::kText) {
        return std::make_unique<SampleDocuments>(file, format, texts, tokenizer);
      }
      TextSource alone = texts;
      alone.paths = {file};
      return std::make_unique<TextDocuments>(alone, tokenizer);
    });
  }
  std::unique_ptr<DocumentSource> all;
  if (only_text) {
    all = std::make_unique<TextDocuments>(texts, tokenizer);
  } else {
    all = std::make_unique<JoinedDocuments>(std::move(parts), listed.notes);
  }
  return first_of(std::move(all));
}

}  // namespace

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
  std::vector<OpenPart> parts;
  for (std::size_t i = 0; i < source.paths.size(); ++i) {
    parts.push_back([=, &tokenizer] { return open_path(source, i, tokenizer); });
  }
  return std::make_unique<JoinedDocuments>(std::move(parts));
}

}  // namespace braid
