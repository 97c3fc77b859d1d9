#pragma once
// The folder of a run, `run.output_dir`/`run.name`, and everything that lies in it:
//   .braid            says that Braid made the folder (core/own_folder.h)
//   config.yaml       the configuration, every key
//   metrics.jsonl     run/metrics.h
//   tensorboard/      the same as an event file, with logging.tensorboard (run/tensorboard.h)
//   log.txt           what the run printed
//   report.html       the page of `braid report` (report/run_page.h)
//   profile.json      where its steps' time went (train --profile)
//   validation.jsonl  the text held back from training (data/prepare.h)
//   data/             token stores (data/prepare.h), scores of preferences by the first model
//                     (train/reference_scores.h)
//   checkpoints/      step-00001000, ... (checkpoint/store.h)
//   error-rank-1.txt  the error that ended a rank
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/folder_lock.h"
#include "parallel/communicator.h"
#include "run/config.h"
#include "run/console.h"
#include "run/metrics.h"
#include "run/tensorboard.h"

namespace braid {

/// A configuration's name, in a run's folder and in each of its checkpoints.
inline constexpr const char* kConfigFile = "config.yaml";

/// The names in a run's folder. Nothing needs to exist.
struct RunPaths {
  std::filesystem::path folder;

  std::filesystem::path config() const { return folder / kConfigFile; }
  std::filesystem::path metrics() const { return folder / "metrics.jsonl"; }
  std::filesystem::path tensorboard() const { return folder / "tensorboard"; }
  std::filesystem::path events() const { return tensorboard() / "events.out.tfevents.braid"; }
  std::filesystem::path log() const { return folder / "log.txt"; }
  std::filesystem::path report() const { return folder / "report.html"; }
  std::filesystem::path profile() const { return folder / "profile.json"; }
  std::filesystem::path checkpoints() const { return folder / "checkpoints"; }
  std::filesystem::path validation_text() const { return folder / "validation.jsonl"; }
  std::filesystem::path token_stores() const { return folder / "data"; }
  std::filesystem::path error_of_rank(int64_t rank) const;

  /// Whether a run has made progress here.
  bool has_progress() const;
};

/// A run's folder, open for training. Of several ranks, rank 0 holds the lock and writes; the
/// others have the paths and a console that prints nothing.
class RunFolder {
 public:
  /// Makes and locks the folder and clears what a killed run left in it. With `start_again` an
  /// earlier run's files are moved to `<folder>.before-1` first. Every rank calls this. Throws
  /// Error when the folder holds something else than a run, or another process is training in it.
  RunFolder(const std::filesystem::path& folder, Communicator& ranks, bool start_again);

  const RunPaths& paths() const { return paths_; }
  Console& console() { return *console_; }

  /// From now on there is an event file for TensorBoard beside metrics.jsonl.
  void use_tensorboard() { has_events_ = true; }
  /// Opens metrics.jsonl, and the event file, for a run that continues after `step`, see Metrics.
  void open_metrics(int64_t step, bool validated = true);
  /// See Metrics::write(); needs open_metrics(), as the next does.
  void write_metrics(int64_t step,
                     const std::string& split,
                     const std::vector<Metrics::Value>& values);
  /// For TensorBoard alone, see EventFile.
  void write_histogram(int64_t step, const std::string& tag, const std::vector<double>& values);
  /// `step`: after which the run has this configuration.
  void write_config(const RunConfig& config, int64_t step);
  void write_profile(const std::string& json) const;

 private:
  void open(bool start_again);

  RunPaths paths_;
  bool writes_;  // rank 0 does
  std::unique_ptr<FolderLock> lock_;
  std::unique_ptr<Console> console_;
  std::unique_ptr<Metrics> metrics_;
  bool has_events_ = false;
  std::unique_ptr<EventFile> events_;
};

}  // namespace braid
