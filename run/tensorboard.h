#pragma once
// Event files that TensorBoard 2.x reads: records of protocol buffers (tensorflow/core/util/
// event.proto, framework/summary.proto), each with its length and two checksums. Written by hand:
// of those messages only a few fields are needed.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "run/metrics.h"

namespace braid {

/// CRC-32C (Castagnoli, RFC 3720), and as records have it: rotated by 15 bits, plus 0xa282ead8.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

/// A run's event file, `tensorboard/events.out.tfevents.braid` in its folder.
class EventFile {
 public:
  /// Opens the file for a run that continues after `step`, as Metrics does: what came later, what
  /// is half written and what is behind a damaged record is left out, by a new file in its place.
  /// What `metrics`, the run's metrics.jsonl, has beyond that is added, so that a file which is
  /// not there yet begins with the run's first step.
  EventFile(const std::filesystem::path& path,
            const std::filesystem::path& metrics,
            int64_t step,
            bool validated = true);

  /// The numbers of a record of metrics.jsonl, under tags that TensorBoard groups:
  /// "gradient_norm/experts" for the key gradient_norm.experts, "validation/SET/loss" for the loss
  /// of a set's validation. Of a sample its words, under "sample/PROMPT, 1".
  void write(int64_t step, const std::string& split, const std::vector<Metrics::Value>& values);
  /// How often values occur, in 30 equal bins from the lowest to the highest. Nothing of none.
  void write_histogram(int64_t step, const std::string& tag, const std::vector<double>& values);
  /// A text, unless the last one of this tag has the same words.
  void write_changed_text(int64_t step, const std::string& tag, const std::string& markdown);

 private:
  void append(const std::string& event);

  std::filesystem::path path_;
  std::ofstream file_;
  std::map<std::string, uint32_t> last_text_;  // checksum, by tag
};

/// The tag of a number, see EventFile::write().
std::string scalar_tag(const std::string& key, const std::string& split, const std::string& set);

}  // namespace braid
