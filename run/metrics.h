#pragma once
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace braid {

/// A run's metrics.jsonl: one JSON object a line, each with a "step"; numbers in full precision.
class Metrics {
 public:
  /// Opens the file for a run that continues after `step`: lines of later steps, and a half-written
  /// last one, are cut off, so that the history holds every step once.
  Metrics(const std::filesystem::path& path, int64_t step);

  using Value = std::pair<std::string, std::variant<double, std::string>>;
  /// Appends {"step": step, ["split": split,] values...} and flushes. Whole numbers are written as
  /// such; NaN and infinities as null. Throws Error when the disk is full.
  void write(int64_t step, const std::string& split, const std::vector<Value>& values);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace braid
