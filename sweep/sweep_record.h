#pragma once
// What a sweep leaves in its folder for those who compare its runs later: which runs are which arm,
// how they are judged, what was expected.
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "report/comparison.h"
#include "sweep/sweep_config.h"

namespace braid {

/// The file of it in a sweep's folder.
inline constexpr const char* kSweepRecordFile = "comparison.yaml";

struct RecordedArm {
  std::string name = {};
  std::vector<std::string> runs = {};  ///< names of their folders
  std::string note = {};

  template <class Visitor>
  static void fields(Visitor& v) {
    v("name", &RecordedArm::name, "of the arm", required);
    v("runs", &RecordedArm::runs, "folders in `runs` that are compared; some may not be there yet");
    v("note", &RecordedArm::note, "of the arm, such as how its learning rate was found");
  }
};

struct SweepRecord {
  std::string title = {}, base_arm = {};
  JudgeSection judge = {};
  RunNumbers numbers = {};
  std::vector<Criterion> criteria = {};
  std::vector<RecordedArm> arms = {};

  template <class Visitor>
  static void fields(Visitor& v) {
    using R = SweepRecord;
    v("title", &R::title, "of the table");
    v("base_arm", &R::base_arm, "the arm that the others are compared with");
    v("judge", &R::judge, "what runs are compared by");
    v("numbers", &R::numbers, "further numbers of each run");
    v("criteria", &R::criteria, "what is expected of the comparison");
    v("arms", &R::arms, "what is compared");
  }
};

void write_sweep_record(const std::filesystem::path& folder, const SweepRecord& record);

/// Nothing where the folder has no such file, as of sweeps of versions before it.
std::optional<SweepRecord> read_sweep_record(const std::filesystem::path& folder);

/// The arms with their runs as they are in the sweep's folder now.
std::vector<ArmRuns> recorded_arms(const std::filesystem::path& folder, const SweepRecord& record);

}  // namespace braid
