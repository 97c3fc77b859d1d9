#include "data/text_reader.h"

#include <string>
#include <utility>

#include "core/error.h"
#include "data/jsonl.h"
#include "data/line_reader.h"

namespace braid {
namespace {

bool is_blank(std::string_view document) {
  return document.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

bool is_separator(std::string_view line, std::string_view separator) {
  for (const char end : {'\n', '\r'}) {
    if (line.ends_with(end)) {
      line.remove_suffix(1);
    }
  }
  return line == separator;
}

}  // namespace

/// The documents of one file, blank ones included.
class TextFile {
 public:
  TextFile(const std::filesystem::path& path, const TextSource& source)
      : separator_(source.document_separator), stream_(open_text(path, source.text_key)) {
    if (is_jsonl(path)) {
      jsonl_.emplace(*stream_,
                     path.string(),
                     JsonlOptions{.text_key = source.text_key, .on_bad_line = source.on_bad_line});
    } else if (!separator_.empty()) {
      lines_.emplace(*stream_, path.string());
    }
  }

  std::optional<std::string_view> next() {
    if (jsonl_) {
      return jsonl_->next();
    }
    if (at_end_) {
      return std::nullopt;
    }
    document_.clear();
    if (lines_) {
      read_to_separator();
    } else {
      read_to_end();
    }
    return document_;
  }

  /// Behind the last document.
  std::string note() const { return jsonl_ ? jsonl_->note() : stream_->note(); }

 private:
  void read_to_separator() {
    while (const auto line = lines_->next()) {
      if (is_separator(*line, separator_)) {
        return;
      }
      document_ += *line;
    }
    at_end_ = true;
  }

  void read_to_end() {
    for (auto piece = stream_->next(); !piece.empty(); piece = stream_->next()) {
      document_ += piece;
    }
    at_end_ = true;
  }

  std::string separator_;
  std::unique_ptr<TextStream> stream_;
  std::optional<JsonlReader> jsonl_;
  std::optional<LineReader> lines_;
  std::string document_;
  bool at_end_ = false;
};

TextReader::TextReader(TextSource source) : source_(std::move(source)) {
  require(source_.document_separator.find('\n') == std::string::npos,
          "the document separator must be a single line without a line break");
  for (const auto& path : source_.paths) {
    const auto [files, notes] = text_files(path);
    files_.insert(files_.end(), files.begin(), files.end());
    notes_.insert(notes_.end(), notes.begin(), notes.end());
  }
}

TextReader::~TextReader() = default;

std::optional<std::string_view> TextReader::next() {
  while (file_ || opened_ < files_.size()) {
    if (!file_) {
      file_ = std::make_unique<TextFile>(files_[opened_++], source_);
    }
    while (const auto document = file_->next()) {
      if (!is_blank(*document)) {
        return document;
      }
    }
    if (auto note = file_->note(); !note.empty()) {
      notes_.push_back(std::move(note));
    }
    file_.reset();
  }
  return std::nullopt;
}

}  // namespace braid
