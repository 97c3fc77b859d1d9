#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "report/comparison.h"

namespace braid {

/// Writes comparison.md, comparison.html (report/comparison_page.h), comparison.csv (a row for each
/// arm), runs.csv (a row for each run) and comparison.json into a folder of Braid's, made where it
/// is missing; returns their paths.
std::vector<std::filesystem::path> write_comparison(const Comparison& comparison,
                                                    const std::filesystem::path& folder);

}  // namespace braid
