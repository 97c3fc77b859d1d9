#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace braid {

/// The prompts of a file, at least one: of a *.jsonl file the "prompt" of each line's object (other
/// keys are skipped), of any other file its lines. Throws Error with file and line for a line
/// that is empty or holds no such object, and for a file without lines.
std::vector<std::string> read_prompts(const std::filesystem::path& path);

}  // namespace braid
