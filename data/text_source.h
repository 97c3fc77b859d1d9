#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

/// Where documents come from. Formats go by the name of the file: *.jsonl holds a JSON object a
/// line; anything else is plain text; both may be compressed (*.gz, *.zst).
struct TextSource {
  /// Files, and folders, of which every *.txt and *.jsonl (compressed or not) at any depth is read
  /// in path order.
  std::vector<std::filesystem::path> paths;
  /// Plain text: a line that consists of exactly this parts two documents and belongs to neither;
  /// empty = each file is one document.
  std::string document_separator = {};
  /// JSONL: the key that holds a line's document.
  std::string text_key = "text";
};

/// The source's paths, for messages.
std::string name_of(const TextSource& source);

/// The files of one of a source's paths, in order. Throws Error for a path that does not exist or
/// cannot be read, and for a folder without text.
std::vector<std::filesystem::path> text_files(const std::filesystem::path& path);

/// How a file of this name is read: "text", "jsonl", "text.gz", ...
std::string format_name(const std::filesystem::path& file);

/// Calls `visit` with the exact bytes of every document, in order; documents of nothing but white
/// space are left out. The view is valid during the call only. One document is held in memory at a
/// time, however large the files. Throws Error with the file for what text_files() refuses,
/// damaged compression and lines that are no JSONL.
void for_each_document(const TextSource& source,
                       const std::function<void(std::string_view)>& visit);

/// Whether a document belongs to validation, a function of its bytes alone: the same text always
/// lands on the same side, wherever and however often it stands. `fraction` in [0, 1] of all
/// documents.
bool is_validation_document(std::string_view document, double fraction);

}  // namespace braid
