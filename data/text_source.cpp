#include "data/text_source.h"

#include <algorithm>
#include <cstdint>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"
#include "core/file.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> text_files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().extension() == ".txt") {
      files.push_back(entry.path());
    }
  }
  require(!files.empty(),
          folder.string(),
          ": no *.txt file in this folder or below; name the files themselves "
          "if they are called otherwise");
  std::sort(files.begin(), files.end());
  return files;
}

void visit_unless_blank(std::string_view document,
                        const std::function<void(std::string_view)>& visit) {
  if (document.find_first_not_of(" \t\r\n\f\v") != std::string_view::npos) {
    visit(document);
  }
}

void split(std::string_view contents,
           std::string_view separator,
           const std::function<void(std::string_view)>& visit) {
  std::size_t document = 0;
  for (std::size_t line = 0; line < contents.size();) {
    const std::size_t newline = std::min(contents.find('\n', line), contents.size());
    std::string_view text = contents.substr(line, newline - line);
    if (text.ends_with('\r')) {
      text.remove_suffix(1);
    }
    const std::size_t next = std::min(newline + 1, contents.size());
    if (text == separator) {
      visit_unless_blank(contents.substr(document, line - document), visit);
      document = next;
    }
    line = next;
  }
  visit_unless_blank(contents.substr(document), visit);
}

}  // namespace

std::vector<fs::path> text_files(const TextSource& source) {
  require(!source.paths.empty(), "no text to read: name at least one file or folder");
  std::vector<fs::path> files;
  for (const fs::path& path : source.paths) {
    try {
      require(fs::exists(path), path.string(), ": no such file or folder");
      if (fs::is_directory(path)) {
        const std::vector<fs::path> below = text_files_below(path);
        files.insert(files.end(), below.begin(), below.end());
      } else {
        files.push_back(path);
      }
    } catch (const fs::filesystem_error& error) {
      fail("cannot read ", path.string(), ": ", error.code().message());
    }
  }
  return files;
}

void for_each_document(const TextSource& source,
                       const std::function<void(std::string_view)>& visit) {
  require(source.document_separator.find('\n') == std::string::npos,
          "the document separator must be a single line without a line break");
  for (const fs::path& path : text_files(source)) {
    const MappedFile file(path);
    const std::string_view contents(reinterpret_cast<const char*>(file.data()), file.size());
    if (source.document_separator.empty()) {
      visit_unless_blank(contents, visit);
    } else {
      split(contents, source.document_separator, visit);
    }
  }
}

bool is_validation_document(std::string_view document, double fraction) {
  const uint64_t hash = XXH3_64bits(document.data(), document.size());
  return static_cast<double>(hash >> 11) * 0x1.0p-53 < fraction;
}

}  // namespace braid
