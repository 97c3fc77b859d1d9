#include "run/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <sstream>

#include "checkpoint/strict_json.h"
#include "core/error.h"
#include "core/file.h"
#include "core/output_place.h"

namespace braid {
namespace {

nlohmann::ordered_json json_number(double value) {
  if (!std::isfinite(value)) {
    return nullptr;
  }
  if (value == std::floor(value) && std::abs(value) < 1e15) {
    return static_cast<int64_t>(value);
  }
  return value;
}

// A line that is a record, and its place in the order that records have: at every step the training
// step's, then the others. nullopt for any other line.
struct Line {
  int64_t number = 0, step = 0;
  int64_t order = 0;
  bool is_of_validation = false;
  std::string text;
};
std::optional<Line> record_of(std::string text, int64_t number, const std::string& where) {
  try {
    const auto record = parse_strict_json(text, where);
    const auto& step = json_field(record, "step", where);
    constexpr int64_t kLargest = std::numeric_limits<int64_t>::max() / 4;
    if (!step.is_number_integer() || step < 0 || step > kLargest) {
      return std::nullopt;
    }
    const auto at = step.get<int64_t>();
    const auto split = record.value("split", "");
    return Line{.number = number,
                .step = at,
                .order = 2 * at + (is_training_step(record) ? 0 : 1),
                .is_of_validation = split == "validation" || split == "sample",
                .text = std::move(text)};
  } catch (const std::exception&) {  // such as a split that is no text
    return std::nullopt;
  }
}

// Whether each line belongs to the longest sequence that is in order, training steps once each: the
// fewest lines are left out, also where a damaged number is a number.
std::vector<bool> in_order(const std::vector<Line>& lines) {
  std::vector<std::size_t> last;  // of the sequences of each length, that with the lowest end
  std::vector<std::optional<std::size_t>> before(lines.size());
  const auto ends_below = [&](std::size_t i, int64_t order) { return lines[i].order < order; };
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const bool may_repeat = lines[i].order % 2 == 1;
    const auto place = std::lower_bound(
        last.begin(), last.end(), lines[i].order + (may_repeat ? 1 : 0), ends_below);
    if (place != last.begin()) {
      before[i] = *std::prev(place);
    }
    if (place == last.end()) {
      last.push_back(i);
    } else {
      *place = i;
    }
  }
  std::vector<bool> result(lines.size(), false);
  for (auto i = last.empty() ? std::nullopt : std::optional(last.back()); i; i = before[*i]) {
    result[*i] = true;
  }
  return result;
}

struct Kept {
  std::string lines;
  std::vector<int64_t> damaged;  // numbers of lines
};
Kept lines_up_to(const std::filesystem::path& path, int64_t step, bool validated) {
  Kept kept;
  std::vector<Line> records;
  std::ifstream file(path);
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    const bool is_cut_off = file.eof();  // a killed run's last line
    if (auto record = record_of(line, ++number, text(path.string(), ":", number))) {
      records.push_back(std::move(*record));
    } else if (!is_cut_off) {
      kept.damaged.push_back(number);
    }
  }
  const auto sound = in_order(records);
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (!sound[i]) {
      kept.damaged.push_back(records[i].number);
    } else if (records[i].step < step ||
               (records[i].step == step && (validated || !records[i].is_of_validation))) {
      kept.lines += records[i].text + "\n";
    }
  }
  std::ranges::sort(kept.damaged);
  return kept;
}

}  // namespace

Metrics::Metrics(const std::filesystem::path& path, int64_t step, bool validated) : path_(path) {
  require_file_or_absent(path);
  if (std::filesystem::exists(path)) {
    auto kept = lines_up_to(path, step, validated);
    write_file_atomically(path, kept.lines);
    damaged_ = std::move(kept.damaged);
  }
  file_.open(path, std::ios::app);
  require(file_.good(), path.string(), ": cannot be written");
}

void Metrics::write(int64_t step, const std::string& split, const std::vector<Value>& values) {
  nlohmann::ordered_json record;
  record["step"] = step;
  if (!split.empty()) {
    record["split"] = split;
  }
  for (const auto& [name, value] : values) {
    if (const auto* words = std::get_if<std::string>(&value)) {
      record[name] = *words;
    } else {
      record[name] = json_number(std::get<double>(value));
    }
  }
  file_ << record.dump() << '\n' << std::flush;
  require(file_.good(), path_.string(), ": cannot be written; is the disk full?");
}

void read_metrics(const std::filesystem::path& path,
                  const std::function<void(const nlohmann::ordered_json&)>& use) {
  std::istringstream lines(read_file(path));
  int64_t last_step = 0, last_line_step = 0, number = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string where = text(path.string(), ":", ++number);
    require(!lines.eof(),
            where,
            ": the last line is cut off: the run was stopped while it was written; braid train "
            "removes it");
    const auto strict = parse_strict_json(line, where);
    const auto& step = json_field(strict, "step", where);
    require(
        step.is_number_integer(), where, ": step is ", step.dump(), ", expected a whole number");
    const auto this_step = step.get<int64_t>();
    const auto record = nlohmann::ordered_json::parse(line);  // in the order written
    const bool is_step = is_training_step(record);
    require(is_step ? this_step > last_step : this_step >= last_line_step,
            where,
            ": step ",
            this_step,
            " comes after step ",
            is_step ? last_step : last_line_step);
    last_step = is_step ? this_step : last_step;
    last_line_step = this_step;
    use(record);
  }
}

}  // namespace braid
