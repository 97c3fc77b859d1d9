#include "sweep/run_record.h"

#include <algorithm>

#include "checkpoint/history.h"
#include "checkpoint/manifest.h"
#include "core/config_edit.h"
#include "core/error.h"
#include "core/file.h"
#include "core/interruption.h"
#include "core/own_folder.h"
#include "data/prepare.h"
#include "data/text_source.h"
#include "data/tokenizer.h"
#include "formats/open_model.h"
#include "report/comparison.h"
#include "run/run_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

/// The file sweep.yaml in a run's folder.
struct RunRecord {
  std::vector<TextDigest> inputs;
  bool finished = false;
  std::string error = {};

  template <class Visitor>
  static void fields(Visitor& v) {
    v("inputs", &RunRecord::inputs, "what the run is made from beside config.yaml");
    v("finished", &RunRecord::finished, "whether it reached its end");
    v("error", &RunRecord::error, "that ended it");
  }
};

fs::path record_file(const fs::path& folder) {
  return folder / "sweep.yaml";
}

void write_record(const fs::path& folder, const RunRecord& record) {
  write_file_atomically(record_file(folder), dump_config(record));
}

// "" = none.
std::string first_difference(const RunConfig& was, const RunConfig& is) {
  for (const auto& [key, before, now] : differing_keys(tree_of(was), tree_of(is))) {
    if (!changes_no_result(key)) {
      return text(key, " was ", before, ", is ", now);
    }
  }
  return "";
}

std::string first_difference(const std::vector<TextDigest>& was,
                             const std::vector<TextDigest>& is) {
  for (const auto& now : is) {
    const auto before = std::ranges::find(was, now.path, &TextDigest::path);
    if (before == was.end() || before->digest != now.digest) {
      return now.path + " holds something else than it did";
    }
  }
  return was == is ? "" : "it read other texts";
}

// The checkpoint that a run or a checkpoint is opened at; nothing for other models.
std::optional<fs::path> checkpoint_in(const fs::path& folder) {
  if (fs::exists(folder / kManifestFile)) {
    return folder;
  }
  return newest_complete_checkpoint(RunPaths{folder}.checkpoints());
}

}  // namespace

const TextDigest& InputDigests::text(const std::string& path) {
  return known(path, [&path] {
    TextDigest digest{path, "", 0};
    std::string of_files;
    for (const auto& file : text_files(path).files) {
      of_files += xxh3_128_of_file(file, stop_if_interrupted) + "\n";
      digest.bytes += static_cast<int64_t>(fs::file_size(file));
    }
    digest.digest = xxh3_128(of_files);
    return digest;
  });
}

const TextDigest& InputDigests::tokenizer(const TokenizerConfig& config) {
  return known(config.file, [&config] {  // its name tells its content
    return TextDigest{config.file, make_tokenizer(config)->name(), 0};
  });
}

const TextDigest& InputDigests::base(const std::string& path) {
  return known(path, [&path] {
    const auto checkpoint = checkpoint_in(path);
    return TextDigest{
        path, checkpoint ? xxh3_128_of_file(*checkpoint / kManifestFile) : fingerprint_of(path), 0};
  });
}

const TextDigest& InputDigests::known(const std::string& path,
                                      const std::function<TextDigest()>& read) {
  const auto found = known_.find(path);
  return found != known_.end() ? found->second : known_.emplace(path, read()).first->second;
}

std::vector<TextDigest> InputDigests::of(const RunConfig& config) {
  std::vector<TextDigest> inputs;
  for (const auto& source : config.data.train) {
    if (!source.task) {  // the configuration says all of a task
      inputs.push_back(text(source.path));
    }
  }
  for (const auto& set : config.data.validation.all()) {
    for (const auto& path : set.paths) {
      inputs.push_back(text(path));
    }
  }
  inputs.push_back(tokenizer(config.tokenizer));
  if (!config.run.init_from.empty()) {
    inputs.push_back(base(config.run.init_from));
  }
  return inputs;
}

RunStanding standing_of(const fs::path& folder,
                        const RunConfig& config,
                        const std::vector<TextDigest>& inputs) {
  using State = RunStanding::State;
  const RunPaths run{folder};
  if (!fs::exists(record_file(folder))) {
    return run.has_progress() ? RunStanding{State::kOther, "it is of no sweep"}
                              : RunStanding{State::kNew, ""};
  }
  try {
    const auto before = load_config<RunConfig>(run.config().string()).value;
    const auto record = load_config<RunRecord>(record_file(folder).string()).value;
    auto difference = first_difference(before, config);
    difference = difference.empty() ? first_difference(record.inputs, inputs) : difference;
    if (!difference.empty()) {
      return {State::kOther, difference};
    }
    return {record.finished ? State::kFinished : State::kBegun, record.error};
  } catch (const Error& error) {
    return {State::kOther, error.what()};
  }
}

void begin_run(const fs::path& folder,
               const fs::path& aside,
               const RunConfig& config,
               const std::vector<TextDigest>& inputs) {
  using State = RunStanding::State;
  if (standing_of(folder, config, inputs).state == State::kOther) {
    if (RunPaths{folder}.has_progress()) {
      fs::create_directories(aside);
      fs::path place;
      for (int i = 1; place.empty() || fs::exists(place); ++i) {
        place = aside / text(folder.filename().string(), ".", i);
      }
      fs::rename(folder, place);
    } else {
      fs::remove(record_file(folder));
    }
  }
  make_own_folder(folder, "choose another `output` for the sweep");
  write_file_atomically(RunPaths{folder}.config(), dump_config(config));
  write_record(folder, {.inputs = inputs});
}

void end_run(const fs::path& folder,
             const std::vector<TextDigest>& inputs,
             const std::string& error) {
  write_record(folder, {.inputs = inputs, .finished = error.empty(), .error = error});
}

std::string error_of_run(const fs::path& folder) {
  return fs::exists(record_file(folder))
             ? load_config<RunRecord>(record_file(folder).string()).value.error
             : "";
}

}  // namespace braid
