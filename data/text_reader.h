#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/text_source.h"

namespace braid {

class TextFile;

/// The documents of a text source, in order, byte for byte; those of nothing but white space are
/// left out. One document is held in memory at a time, however large the files.
class TextReader {
 public:
  /// Throws Error for a separator of several lines and for what text_files() refuses.
  explicit TextReader(TextSource source);
  ~TextReader();

  /// The next document, valid until the next call; nullopt at the end. Throws Error with the file
  /// for what open_text() refuses, damaged compression, and lines that are no JSONL unless those
  /// are skipped.
  std::optional<std::string_view> next();

  /// What was left out or looks wrong so far, a line each, for people.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  TextSource source_;
  std::vector<std::filesystem::path> files_;
  std::vector<std::string> notes_;
  std::size_t opened_ = 0;          // of files_
  std::unique_ptr<TextFile> file_;  // the last one opened, until it has been read
};

}  // namespace braid
