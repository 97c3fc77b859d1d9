#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

/// Where plain text comes from.
struct TextSource {
  /// Files of any name, and folders, of which every *.txt at any depth is read in path order.
  std::vector<std::filesystem::path> paths;
  /// A line that consists of exactly this text parts two documents and belongs to neither; empty =
  /// each file is one document.
  std::string document_separator;
};

/// The files of a source, in order. Throws Error for a path that does not exist or cannot be read,
/// a folder without *.txt and a source without paths.
std::vector<std::filesystem::path> text_files(const TextSource& source);

/// Calls `visit` with the exact bytes of every document, in order; documents of nothing but white
/// space are left out. The view is valid during the call only.
void for_each_document(const TextSource& source,
                       const std::function<void(std::string_view)>& visit);

/// Whether a document belongs to validation, a function of its bytes alone: the same text always
/// lands on the same side, wherever and however often it stands. `fraction` in [0, 1] of all
/// documents.
bool is_validation_document(std::string_view document, double fraction);

}  // namespace braid
