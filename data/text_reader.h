#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
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
  /// for damaged compression and for lines that are no JSONL.
  std::optional<std::string_view> next();

 private:
  TextSource source_;
  std::vector<std::filesystem::path> files_;
  std::size_t opened_ = 0;          // of files_
  std::unique_ptr<TextFile> file_;  // the last one opened, until it has been read
};

}  // namespace braid
