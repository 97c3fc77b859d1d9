#include "run/metrics.h"

#include <cmath>
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

std::string lines_up_to(const std::filesystem::path& path, int64_t step, bool validated) {
  std::string kept;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object() || !record.contains("step") || record.at("step") > step) {
      break;
    }
    if (!validated && record.at("step") == step && record.value("split", "") == "validation") {
      continue;
    }
    kept += line + "\n";
  }
  return kept;
}

}  // namespace

Metrics::Metrics(const std::filesystem::path& path, int64_t step, bool validated) : path_(path) {
  require_file_or_absent(path);
  if (std::filesystem::exists(path)) {
    write_file_atomically(path, lines_up_to(path, step, validated));
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

bool is_training_step(const nlohmann::ordered_json& record) {
  return !record.contains("split");
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
