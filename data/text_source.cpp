#include "data/text_source.h"

#include <algorithm>

#include "core/error.h"
#include "data/byte_stream.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

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

bool is_jsonl(const fs::path& file) {
  return format_extension(file) == ".jsonl";
}

std::string format_name(const fs::path& file) {
  return (is_jsonl(file) ? "jsonl" : "text") +
         (compression_of(file) == Compression::kNone ? "" : file.extension().string());
}

}  // namespace braid
