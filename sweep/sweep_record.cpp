#include "sweep/sweep_record.h"

#include "core/config.h"
#include "core/file.h"
#include "run/run_list.h"
#include "sweep/run_record.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

// Of a run that a sweep has made, is making, or will make.
RunCurves curves_in(const fs::path& folder) {
  if (!is_run(folder)) {
    return {.folder = folder, .name = folder.filename().string(), .state = "stopped"};
  }
  auto curves = read_run(folder);
  const auto error = error_of_run(folder);
  if (!error.empty() && curves.state != "running") {
    curves.state = "failed";
    curves.problem = error;
  }
  return curves;
}

}  // namespace

void write_sweep_record(const fs::path& folder, const SweepRecord& record) {
  write_file_atomically(folder / kSweepRecordFile,
                        "# What `braid compare` needs to make the table of this sweep again.\n" +
                            dump_config(record));
}

std::optional<SweepRecord> read_sweep_record(const fs::path& folder) {
  const auto file = folder / kSweepRecordFile;
  std::error_code absent;
  if (!fs::is_regular_file(file, absent)) {
    return std::nullopt;
  }
  return load_config<SweepRecord>(file.string()).value;
}

std::vector<ArmRuns> recorded_arms(const fs::path& folder, const SweepRecord& record) {
  std::vector<ArmRuns> arms;
  for (const auto& [name, runs, note] : record.arms) {
    auto& arm = arms.emplace_back(ArmRuns{name, {}, note});
    for (const auto& run : runs) {
      arm.runs.push_back(curves_in(folder / "runs" / run));
    }
  }
  return arms;
}

}  // namespace braid
