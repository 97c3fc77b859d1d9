#include "run/run_folder.h"

#include <iostream>

#include "checkpoint/history.h"
#include "checkpoint/manifest.h"
#include "core/error.h"
#include "core/file.h"
#include "core/own_folder.h"
#include "parallel/mpi_world.h"
#include "run/shared_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

// As of a version that did not mark its folders.
bool has_a_checkpoint(const fs::path& checkpoints) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(checkpoints, none)) {
    if (checkpoint_step(entry.path()) && fs::exists(entry.path() / kManifestFile, none)) {
      return true;
    }
  }
  return false;
}

// The lock and the token stores stay: they hold no run's progress.
void move_earlier_run_aside(const RunPaths& run) {
  if (!run.has_progress()) {
    return;
  }
  fs::path aside;
  for (int i = 1; aside.empty() || fs::exists(aside); ++i) {
    aside = text(run.folder.string(), ".before-", i);
  }
  fs::create_directory(aside);
  for (const auto& path :
       {run.checkpoints(), run.metrics(), run.tensorboard(), run.config(), run.log()}) {
    if (fs::exists(path)) {
      fs::rename(path, aside / path.filename());
    }
  }
  std::cout << "the earlier run is now " << aside.string() << std::endl;
}

}  // namespace

fs::path RunPaths::error_of_rank(int64_t rank) const {
  return folder / text("error-rank-", rank, ".txt");
}

bool RunPaths::has_progress() const {
  return fs::exists(metrics()) || fs::exists(checkpoints());
}

RunFolder::RunFolder(const fs::path& folder, Communicator& ranks, bool start_again)
    : paths_{folder}, writes_(ranks.rank() == 0), console_(std::make_unique<Console>()) {
  ranks.first_alone([&] { open(start_again); }, "the run's folder");
  require_shared_folder(paths_.folder, ranks);
}

void RunFolder::open(bool start_again) {
  make_own_folder(paths_.folder,
                  "choose another run.name or run.output_dir",
                  has_a_checkpoint(paths_.checkpoints()));
  // Two processes would overwrite each other's checkpoints.
  lock_ = std::make_unique<FolderLock>(
      paths_.folder,
      "another process is training in this run; wait for it or choose another run.name");
  if (start_again) {
    move_earlier_run_aside(paths_);
  }
  console_ = std::make_unique<Console>(paths_.log(), !MpiWorld::was_launched());
  if (!lock_->warning().empty()) {
    console_->line(lock_->warning());
  }
  if (fs::exists(paths_.checkpoints())) {
    remove_leftovers(paths_.checkpoints());  // also restores one that was about to be replaced
  }
}

void RunFolder::open_metrics(int64_t step, bool validated) {
  if (writes_) {
    metrics_ = std::make_unique<Metrics>(paths_.metrics(), step, validated);
    if (const auto& damaged = metrics_->damaged(); !damaged.empty()) {
      console_->line(text("note: ",
                          paths_.metrics().string(),
                          ": ",
                          damaged.size(),
                          damaged.size() == 1 ? " damaged line was" : " damaged lines were",
                          " left out, the first in line ",
                          damaged.front()));
    }
    if (has_events_) {
      events_ = nullptr;  // closed before it is replaced
      events_ = std::make_unique<EventFile>(paths_.events(), paths_.metrics(), step, validated);
    }
  }
}

void RunFolder::write_metrics(int64_t step,
                              const std::string& split,
                              const std::vector<Metrics::Value>& values) {
  if (writes_) {
    metrics_->write(step, split, values);
  }
  if (events_) {
    events_->write(step, split, values);
  }
}

void RunFolder::write_histogram(int64_t step,
                                const std::string& tag,
                                const std::vector<double>& values) {
  if (events_) {
    events_->write_histogram(step, tag, values);
  }
}

void RunFolder::write_config(const RunConfig& config, int64_t step) {
  if (!writes_) {
    return;
  }
  const auto yaml = dump_config(config);
  write_file_atomically(paths_.config(), yaml);
  if (events_) {
    events_->write_changed_text(step, kConfigFile, "```yaml\n" + yaml + "```\n");
  }
}

void RunFolder::write_profile(const std::string& json) const {
  if (writes_) {
    write_file_atomically(paths_.profile(), json);
  }
}

}  // namespace braid
