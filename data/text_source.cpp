#include "data/text_source.h"

#include <algorithm>
#include <cstdint>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/error.h"
#include "core/file.h"
#include "data/byte_stream.h"
#include "data/jsonl.h"
#include "data/line_reader.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

using Visit = std::function<void(std::string_view)>;

/// ".txt" of "a.txt.gz".
fs::path format_extension(const fs::path& path) {
  return compression_of(path) == Compression::kNone ? path.extension() : path.stem().extension();
}

std::vector<fs::path> text_files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const auto format = format_extension(entry.path());
    if (entry.is_regular_file() && (format == ".txt" || format == ".jsonl")) {
      files.push_back(entry.path());
    }
  }
  require(!files.empty(),
          folder.string(),
          ": no *.txt or *.jsonl file (or such with .gz or .zst) in this folder or below; name the "
          "files themselves if they are called otherwise");
  std::sort(files.begin(), files.end());
  return files;
}

void visit_unless_blank(std::string_view document, const Visit& visit) {
  if (document.find_first_not_of(" \t\r\n\f\v") != std::string_view::npos) {
    visit(document);
  }
}

bool is_separator(std::string_view line, std::string_view separator) {
  for (const char end : {'\n', '\r'}) {
    if (line.ends_with(end)) {
      line.remove_suffix(1);
    }
  }
  return line == separator;
}

void split(ByteStream& stream,
           const std::string& name,
           std::string_view separator,
           const Visit& visit) {
  LineReader lines(stream, name);
  std::string document;
  while (const auto line = lines.next()) {
    if (is_separator(*line, separator)) {
      visit_unless_blank(document, visit);
      document.clear();
    } else {
      document += *line;
    }
  }
  visit_unless_blank(document, visit);
}

void visit_whole(ByteStream& stream, const Visit& visit) {
  std::string document;
  for (auto piece = stream.next(); !piece.empty(); piece = stream.next()) {
    document += piece;
  }
  visit_unless_blank(document, visit);
}

void visit_documents_of_file(const fs::path& path, const TextSource& source, const Visit& visit) {
  const MappedFile file(path);
  const std::string_view contents(reinterpret_cast<const char*>(file.data()), file.size());
  const auto stream = decompressed(contents, compression_of(path), path.string());
  if (format_extension(path) == ".jsonl") {
    for_each_jsonl_text(
        *stream, path.string(), {.text_key = source.text_key}, [&](std::string_view text) {
          visit_unless_blank(text, visit);
        });
  } else if (source.document_separator.empty()) {
    visit_whole(*stream, visit);
  } else {
    split(*stream, path.string(), source.document_separator, visit);
  }
}

}  // namespace

std::string name_of(const TextSource& source) {
  std::string name;
  for (const fs::path& path : source.paths) {
    name += (name.empty() ? "" : ", ") + path.string();
  }
  return name;
}

std::vector<fs::path> text_files(const fs::path& path) {
  try {
    require(fs::exists(path), path.string(), ": no such file or folder");
    return fs::is_directory(path) ? text_files_below(path) : std::vector{path};
  } catch (const fs::filesystem_error& error) {
    fail("cannot read ", path.string(), ": ", error.code().message());
  }
}

std::string format_name(const fs::path& file) {
  return (format_extension(file) == ".jsonl" ? "jsonl" : "text") +
         (compression_of(file) == Compression::kNone ? "" : file.extension().string());
}

void for_each_document(const TextSource& source, const Visit& visit) {
  require(source.document_separator.find('\n') == std::string::npos,
          "the document separator must be a single line without a line break");
  for (const fs::path& path : source.paths) {
    for (const fs::path& file : text_files(path)) {
      visit_documents_of_file(file, source, visit);
    }
  }
}

bool is_validation_document(std::string_view document, double fraction) {
  const uint64_t hash = XXH3_64bits(document.data(), document.size());
  return static_cast<double>(hash >> 11) * 0x1.0p-53 < fraction;
}

}  // namespace braid
