#pragma once
#include <filesystem>
#include <map>
#include <string>

namespace braid {

/// Bytes that each parameter ("*" for experts) takes as codes and scales, as far as a model folder
/// has codes. From the headers alone; empty for a model of floats, a run, and a folder that cannot
/// be read (what opens it says why).
std::map<std::string, double> bytes_of_codes(const std::filesystem::path& folder);

}  // namespace braid
