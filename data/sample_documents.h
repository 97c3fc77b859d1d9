#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/document.h"
#include "data/jsonl.h"
#include "data/sample_parser.h"
#include "data/text_source.h"
#include "data/tokenizer.h"

namespace braid {

/// How the documents of a file are made.
struct FileFormat {
  SampleFormat format = SampleFormat::kText;  ///< not kAuto
  bool guessed = false;                       ///< from the keys of its first rows
  /// Keys of text and of samples are both there; for people, else empty.
  std::string note = {};
};

/// `asked`: what data.format says; kAuto = by the keys of the first rows that have some known ones,
/// where the file is JSONL or a JSON array by its name (*.jsonl, *.ndjson, *.json); anything else
/// is text. Throws Error as open_text() does.
FileFormat format_of(const std::filesystem::path& file,
                     SampleFormat asked,
                     const std::string& text_key);

/// The formats of a source's files.
struct SourceFormats {
  std::vector<std::string>
      lines;  ///< for people, of what is not text; one for each path and format
  std::vector<std::string> notes;
  bool samples = false;  ///< some file is not text
  bool pairs = false;    ///< some file holds preferences
};
SourceFormats formats_of(const TextSource& source);

/// The documents of one file of samples (any format but text): the lines of JSONL, or the items of
/// a JSON array.
class SampleDocuments : public DocumentSource {
 public:
  /// Of `source`, the rules, what happens to bad lines, and the longest sample are taken.
  /// `tokenizer` must outlive the object. Throws Error as SampleParser and open_text() do.
  SampleDocuments(const std::filesystem::path& file,
                  SampleFormat format,
                  const TextSource& source,
                  const Tokenizer& tokenizer);

  /// A bad sample is an Error with file, line and reason, and the bad ones that follow closely, or
  /// skipped; so is one that has no target left once it is cut.
  bool next(Document& document) override;
  std::vector<std::string> notes() const override;

 private:
  std::string take(std::string_view row);
  bool fits(std::vector<Document>& documents);

  SampleParser parser_;
  TooLong too_long_;
  int64_t longest_;
  const char* longest_key_;
  std::unique_ptr<TextStream> stream_;
  std::string name_;
  JsonRows rows_;
  std::vector<Document> documents_;  // of the last row
  std::size_t given_ = 0;
  int64_t samples_ = 0, too_long_samples_ = 0, most_inputs_ = 0, masked_messages_ = 0;
  std::string longest_place_;
};

}  // namespace braid
