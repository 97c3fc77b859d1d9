#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace braid {

/// Where documents come from. Formats go by the name of the file: *.jsonl holds a JSON object a
/// line; anything else is plain text; both may be compressed (*.gz, *.zst).
struct TextSource {
  /// Files, and folders, of which every *.txt and *.jsonl (compressed or not) at any depth is read
  /// in path order.
  std::vector<std::filesystem::path> paths;
  /// Plain text: a line that consists of exactly this separates two documents and belongs to
  /// neither; empty = each file is one document.
  std::string document_separator = {};
  /// JSONL: the key that holds a line's document.
  std::string text_key = "text";
};

/// The source's paths, for messages.
std::string name_of(const TextSource& source);

/// The files of one of a source's paths, in order. Throws Error for a path that does not exist or
/// cannot be read, and for a folder without text.
std::vector<std::filesystem::path> text_files(const std::filesystem::path& path);

bool is_jsonl(const std::filesystem::path& file);

/// How a file of this name is read: "text", "jsonl", "text.gz", ...
std::string format_name(const std::filesystem::path& file);

}  // namespace braid
