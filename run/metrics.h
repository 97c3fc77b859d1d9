#pragma once
// A run's metrics.jsonl: one JSON object a line, each with a "step"; numbers in full precision. A
// record without a "split" is a training step's.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

namespace braid {

/// Writes the file.
class Metrics {
 public:
  /// Opens the file for a run that continues after `step`: lines of later steps, a half-written
  /// last one, and damaged ones are left out, so that the history holds every step once.
  /// `validated`: false where that step is still to be validated; what an earlier process found
  /// then goes too.
  Metrics(const std::filesystem::path& path, int64_t step, bool validated = true);

  /// The numbers of the lines, counted from 1, that were no records or out of order.
  const std::vector<int64_t>& damaged() const { return damaged_; }

  using Value = std::pair<std::string, std::variant<double, std::string>>;
  /// Appends {"step": step, ["split": split,] values...} and flushes. Whole numbers are written as
  /// such; NaN and infinities as null. Throws Error when the disk is full.
  void write(int64_t step, const std::string& split, const std::vector<Value>& values);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
  std::vector<int64_t> damaged_;
};

/// Whether a record of metrics.jsonl is a training step's.
template <class Json>
bool is_training_step(const Json& record) {
  return !record.contains("split");
}

/// Reads the file: calls `use` with each record, keys in the order written. Throws Error at the
/// first line that is cut off, is no JSON object with a whole "step", or goes back to an earlier
/// step.
void read_metrics(const std::filesystem::path& path,
                  const std::function<void(const nlohmann::ordered_json&)>& use);

}  // namespace braid
