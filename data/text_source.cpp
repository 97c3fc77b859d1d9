#include "data/text_source.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "data/byte_stream.h"
#include "data/file_format.h"
#include "data/token_store.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

/// ".txt" of "a.TXT.gz".
std::string format_extension(const fs::path& path) {
  return lower_extension(compression_of(path) == Compression::kNone ? path : path.stem());
}

bool has_text_name(const fs::path& path) {
  return is_jsonl(path) || format_extension(path) == ".txt";
}

std::string joined_few(const std::vector<std::string>& names) {
  constexpr std::size_t kFew = 3;
  std::string result;
  for (std::size_t i = 0; i < std::min(kFew, names.size()); ++i) {
    result += (i == 0 ? "" : ", ") + names[i];
  }
  return result + (names.size() > kFew ? ", ..." : "");
}

void require_regular(const fs::path& path, fs::file_status status) {
  require(fs::is_regular_file(status),
          path.string(),
          ": is ",
          fs::is_fifo(status)     ? "a FIFO"
          : fs::is_socket(status) ? "a socket"
                                  : "a device",
          ", not a file; texts are read more than once, so write it to a file first");
}

[[noreturn]] void fail_dangling(const fs::path& link) {
  fail(link.string(),
       ": is a link to ",
       fs::read_symlink(link).string(),
       ", which is not there; put it there or remove the link");
}

/// Walks a folder.
class FolderListing {
 public:
  explicit FolderListing(const fs::path& folder) : folder_(folder) { enter(folder); }

  TextFiles take() {
    std::string others;
    for (const auto& [extension, count] : others_) {
      others += text(others.empty() ? "" : ", ", count, " ", extension);
    }
    require(!result_.files.empty(),
            folder_.string(),
            ": no *.txt, *.jsonl or *.ndjson file (or such with .gz or .zst) in this folder or "
            "below; name the files themselves if they are called otherwise",
            others.empty() ? "" : " (there are: " + others + ")");
    note(hidden_, "passed over what is hidden");
    note(links_, "read through links to folders");
    note(again_, "read folders once that can be reached in several ways");
    if (!others.empty()) {
      result_.notes.push_back(text(
          folder_.string(), ": left out what is not called *.txt, *.jsonl or *.ndjson: ", others));
    }
    std::sort(result_.files.begin(), result_.files.end());
    return std::move(result_);
  }

 private:
  // Entries in the order of their names, so that what is read of a folder that can be reached in
  // several ways does not depend on the file system.
  void enter(const fs::path& folder) {
    visited_.insert(fs::canonical(folder));
    std::vector<fs::directory_entry> entries;
    for (const auto& entry : fs::directory_iterator(folder)) {
      entries.push_back(entry);
    }
    std::sort(entries.begin(), entries.end());
    for (const auto& entry : entries) {
      look_at(entry);
    }
  }

  void look_at(const fs::directory_entry& entry) {
    const fs::path& path = entry.path();
    const std::string name = path.lexically_relative(folder_).string();
    if (path.filename().string().starts_with('.')) {
      hidden_.push_back(name);
      return;
    }
    const auto status = entry.status();
    const bool may_be_text = has_text_name(path);
    if (status.type() == fs::file_type::not_found && (may_be_text || !path.has_extension())) {
      fail_dangling(path);
    }
    if (fs::is_directory(status)) {
      if (visited_.contains(fs::canonical(path))) {
        again_.push_back(name);
        return;
      }
      if (entry.is_symlink()) {
        links_.push_back(name);
      }
      enter(path);
    } else if (!may_be_text) {
      ++others_[path.has_extension() ? "*" + path.extension().string() : "without a suffix"];
    } else {
      require_regular(path, status);
      result_.files.push_back(path);
    }
  }

  void note(const std::vector<std::string>& names, const char* what) {
    if (!names.empty()) {
      result_.notes.push_back(
          text(folder_.string(), ": ", what, " (", names.size(), "): ", joined_few(names)));
    }
  }

  fs::path folder_;
  std::set<fs::path> visited_;  // folders
  std::vector<std::string> hidden_, links_, again_;
  std::map<std::string, int64_t> others_;  // by suffix
  TextFiles result_;
};

/// The first bytes of a file, as they are on the disk.
std::string first_bytes(const fs::path& path) {
  const InputFile file(path);
  std::string bytes(std::min<std::size_t>(file.size(), 8), '\0');
  file.read_at(0, bytes.data(), bytes.size());
  return bytes;
}

const char* suffix_of(Compression compression) {
  return compression == Compression::kGzip   ? ".gz"
         : compression == Compression::kZstd ? ".zst"
                                             : "";
}

}  // namespace

std::string name_of(const TextSource& source) {
  std::string name;
  for (const fs::path& path : source.paths) {
    name += (name.empty() ? "" : ", ") + path.string();
  }
  return name;
}

int64_t bytes_of(const TextSource& source) {
  int64_t bytes = 0;
  for (const fs::path& path : source.paths) {
    for (const fs::path& file : text_files(path).files) {
      bytes += static_cast<int64_t>(fs::file_size(file));
    }
  }
  return bytes;
}

TextFiles text_files(const fs::path& path) {
  try {
    const auto status = fs::status(path);
    if (status.type() == fs::file_type::not_found && fs::is_symlink(fs::symlink_status(path))) {
      fail_dangling(path);
    }
    require(fs::exists(status), path.string(), ": no such file or folder");
    if (fs::is_directory(status)) {
      return FolderListing(path).take();
    }
    require_regular(path, status);
    return {{path}, {}};
  } catch (const fs::filesystem_error& error) {
    fail("cannot read ",
         (error.path1().empty() ? path : error.path1()).string(),
         ": ",
         error.code().message());
  }
}

bool is_jsonl(const fs::path& file) {
  const std::string extension = format_extension(file);
  return extension == ".jsonl" || extension == ".ndjson";
}

std::string format_name(const fs::path& file) {
  if (is_token_store(file)) {
    return "tokens";
  }
  const std::string bytes = first_bytes(file);
  const bool has_mark = without_byte_order_mark(bytes).size() < bytes.size();
  return text(is_jsonl(file) ? "jsonl" : "text",
              suffix_of(compression_in(bytes)),
              has_mark ? " with a byte-order mark" : "");
}

bool is_json(const fs::path& file) {
  return format_extension(file) == ".json";
}

namespace {

// With its name in the options.
std::unique_ptr<TextStream> opened_stream(const fs::path& file, TextStream::Options options) {
  const std::string extension = format_extension(file);
  require(extension != ".csv" && extension != ".tsv",
          file.string(),
          ": is a table (",
          extension,
          "), and Braid reads plain text and JSONL; convert it to JSONL: scripts/to_jsonl.py "
          "FILE.jsonl FILE");
  const std::string bytes = first_bytes(file);
  const Compression promised = compression_of(file), found = compression_in(bytes);
  require(promised == Compression::kNone || found != Compression::kNone || bytes.size() < 4,
          file.string(),
          ": is called *",
          suffix_of(promised),
          ", but does not begin as such a file does; if it is not compressed, call it otherwise, "
          "else copy it again");
  return std::make_unique<TextStream>(
      decompressed(stream_of_file(file), bytes.size() < 4 ? promised : found, file.string()),
      std::move(options));
}

}  // namespace

std::unique_ptr<TextStream> open_text(const fs::path& file, const std::string& text_key) {
  return opened_stream(file, {file.string(), is_jsonl(file), text_key});
}

std::unique_ptr<TextStream> open_rows(const fs::path& file) {
  return opened_stream(file, {.name = file.string(), .is_jsonl = true, .may_be_array = true});
}

}  // namespace braid
