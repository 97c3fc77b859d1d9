#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/bad_lines.h"
#include "data/sample_rules.h"
#include "data/text_stream.h"

namespace braid {

/// Where documents come from. Formats go by the name of the file, in any case: *.jsonl and *.ndjson
/// hold a JSON object a line; anything else is plain text. Both may be compressed with gzip or
/// Zstandard, which the first bytes say. Rows of JSONL, and the items of a JSON array, may also be
/// samples (sample_documents.h). A path that is a token store is read as one.
struct TextSource {
  /// Files, and folders, of which text_files() lists what is read.
  std::vector<std::filesystem::path> paths;
  /// Plain text: a line that consists of exactly this separates two documents and belongs to
  /// neither; empty = each file is one document.
  std::string document_separator = {};
  /// JSONL: the key that holds a line's document.
  std::string text_key = "text";
  /// JSONL: whether a line that holds no document ends everything.
  OnBadLine on_bad_line = OnBadLine::kError;
  SampleRules samples = {};
  /// Inputs that a sample may have, 0 = any number; what happens to others is samples.too_long.
  int64_t longest = 0;
  /// The key that says so, for messages; a literal.
  const char* longest_key = "data.seq_len";
  /// What holds for one of the paths alone: an entry for each, or none at all.
  struct OfPath {
    std::optional<SampleFormat> format = {};
    int64_t max_samples = 0;  ///< its first ones; 0 = all
  };
  std::vector<OfPath> of_paths = {};

  OfPath of_path(std::size_t i) const { return of_paths.empty() ? OfPath{} : of_paths[i]; }
  SampleFormat format_of_path(std::size_t i) const {
    return of_path(i).format.value_or(samples.format);
  }
};

/// The source's paths, for messages.
std::string name_of(const TextSource& source);

/// On the disk, compressed or not. Throws Error for what text_files() refuses.
int64_t bytes_of(const TextSource& source);

struct TextFiles {
  std::vector<std::filesystem::path> files;  ///< in path order
  /// What of a folder was left out, or is not where it seems to be; a line each, for people.
  std::vector<std::string> notes;
};

/// The files of one of a source's paths: a file alone, or of a folder every *.txt, *.jsonl and
/// *.ndjson (compressed or not) at any depth. Links to folders are followed, each folder read once;
/// files and folders whose names begin with a dot are passed over. Throws Error for a path that
/// does not exist, cannot be read or is neither file nor folder (a FIFO), for a link to nothing,
/// and for a folder without text.
TextFiles text_files(const std::filesystem::path& path);

bool is_jsonl(const std::filesystem::path& file);
/// Whether it is called *.json, compressed or not.
bool is_json(const std::filesystem::path& file);

/// How a file is read, by its name and first bytes: "text", "jsonl", "text.gz", "tokens", ...
/// Throws Error with the path for a file that cannot be read.
std::string format_name(const std::filesystem::path& file);

/// The text of a file, decompressed. Throws Error with the path for a table (*.csv, *.tsv), a name
/// that promises another compression than the bytes have, and as TextStream and stream_of_file()
/// do.
std::unique_ptr<TextStream> open_text(const std::filesystem::path& file,
                                      const std::string& text_key);

/// The same where rows are read, of JSONL or a JSON array, whatever the file is called.
std::unique_ptr<TextStream> open_rows(const std::filesystem::path& file);

}  // namespace braid
