#include "run/run_folder.h"

#include <iostream>

#include "checkpoint/history.h"
#include "core/error.h"
#include "core/file.h"
#include "parallel/mpi_world.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  require(!error, folder.string(), ": cannot be made: ", error.message());
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
  for (const auto& path : {run.checkpoints(), run.metrics(), run.config(), run.log()}) {
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
}

void RunFolder::open(bool start_again) {
  make_folder(paths_.folder);
  // Two processes would overwrite each other's checkpoints.
  lock_ = std::make_unique<FolderLock>(
      paths_.folder,
      "another process is training in this run; wait for it or choose another run.name");
  if (start_again) {
    move_earlier_run_aside(paths_);
  }
  console_ = std::make_unique<Console>(paths_.log(), !MpiWorld::was_launched());
  if (fs::exists(paths_.checkpoints())) {
    remove_leftovers(paths_.checkpoints());  // also restores one that was about to be replaced
  }
}

void RunFolder::open_metrics(int64_t step) {
  if (writes_) {
    metrics_ = std::make_unique<Metrics>(paths_.metrics(), step);
    if (const auto& damaged = metrics_->damaged(); !damaged.empty()) {
      console_->line(text("note: ",
                          paths_.metrics().string(),
                          ": ",
                          damaged.size(),
                          damaged.size() == 1 ? " damaged line was" : " damaged lines were",
                          " left out, the first in line ",
                          damaged.front()));
    }
  }
}

void RunFolder::write_metrics(int64_t step,
                              const std::string& split,
                              const std::vector<Metrics::Value>& values) {
  if (writes_) {
    metrics_->write(step, split, values);
  }
}

void RunFolder::write_config(const RunConfig& config) const {
  if (writes_) {
    write_file_atomically(paths_.config(), dump_config(config));
  }
}

void RunFolder::write_profile(const std::string& json) const {
  if (writes_) {
    write_file_atomically(paths_.profile(), json);
  }
}

}  // namespace braid
