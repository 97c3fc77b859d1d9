#pragma once
// Flags that several commands have.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <c10/core/ScalarType.h>

#include "data/config.h"
#include "data/text_source.h"
#include "data/tokenizer.h"
#include "formats/base_model.h"
#include "formats/open_model.h"
#include "inference/sampling.h"
#include "run/config.h"
#include "run/device_choice.h"

namespace braid {

/// The positional MODEL.
void add_model(CLI::App& command, std::string& path);

/// --adapter DIR, repeatable, and --any-base.
void add_adapters_option(CLI::App& command, AdapterFolders& adapters);
/// --any-base alone.
void add_any_base(CLI::App& command, AdapterFolders& adapters);

/// --tokenizer, for a MODEL that comes without one.
void add_tokenizer(CLI::App& command, std::string& name);
/// The tokenizer that --tokenizer names, or the MODEL's own. Throws Error where there is none, or
/// one with more ids than the model has.
std::unique_ptr<Tokenizer> tokenizer_of(const OpenedModel& opened, const std::string& named);
/// Throws Error for a tokenizer with more ids than the model has.
void require_vocabulary(const OpenedModel& opened, const Tokenizer& tokenizer);

/// The tokenizer of this name (formats/model_tokenizer.h). Throws Error that begins with the
/// option.
std::unique_ptr<Tokenizer> tokenizer_called(const std::string& name);

/// --temperature, --top-k, --top-p, --seed.
void add_sampling(CLI::App& command, Sampling& sampling, uint64_t& seed);

/// How texts and samples are read: --document-separator, --text-key, --on-bad-sample, and
/// --set data.KEY=VALUE for every other key of the section `data`.
struct TextOptions {
  std::string document_separator, text_key = "text", on_bad_sample = "error";
  std::vector<std::string> overrides;

  /// The section with these keys. Throws ConfigError, and Error for a --set of another section.
  DataSection section() const;
  /// Samples of any length are read.
  TextSource source(const std::vector<std::string>& paths) const;
};
void add_text_options(CLI::App& command, TextOptions& options);

/// Makes a command line without any of these options a wrong one.
void require_one_of(CLI::App& command, const std::vector<std::string>& options);

/// --task, a synthetic task as data.train takes one.
CLI::Option* add_task(CLI::App& command, std::string& task);
/// The task that --task names. Throws Error that begins with the option.
TaskOptions task_of(const std::string& task);

/// Each as a line "note: ..." on standard error.
void print_notes(const std::vector<std::string>& notes);

/// A run's configuration: CONFIG.yaml [OVERLAY.yaml ...] [--set a.b=c ...].
struct RunConfigOptions {
  std::string config;
  std::vector<std::string> overlays, overrides;
  /// The config.yaml in a run's folder is that run's, wherever the folder was moved or copied to.
  /// `resume` as the train command takes it.
  RunConfig load(const std::string& resume = "auto") const {
    return in_its_own_folder(load_run_config_on_base(config, overrides, overlays, resume));
  }

 private:
  RunConfig in_its_own_folder(RunConfig loaded) const;
};
/// Returns the option of CONFIG.yaml.
CLI::Option* add_run_config(CLI::App& command, RunConfigOptions& options);

/// Checks of values. Each reads all of the text, and its message says what is possible; CLI11's own
/// pass over what follows a number, and name the largest number that a double holds.
CLI::Validator whole_number(int64_t low, int64_t high);
CLI::Validator any_seed();
CLI::Validator real_number(double low, double high, bool or_zero = false);
CLI::Validator one_line();
CLI::Validator not_empty();

/// Why CLI11 could not read the command line, in a sentence, for CLI::App::failure_message().
std::string message_of_wrong_line(const CLI::App& app, const CLI::Error& error);

/// --dtype float64 | float32 | bfloat16; `dtype` holds the default.
void add_dtype(CLI::App& command, at::ScalarType& dtype);

/// What users call a GB.
inline constexpr double kGigabyte = 1e9;

/// Where a MODEL is.
struct ModelPlace {
  DeviceChoice device;
  ExpertRoom room;  ///< on a GPU

  /// Throws Error where there is no such device, and for a room of experts on the CPU.
  at::Device find_device() const;
};
/// --device cpu | cuda | cuda:N, --resident-gb G and --pinned-gb G.
void add_device(CLI::App& command, ModelPlace& place);

}  // namespace braid
