#pragma once
// Flags that several commands have.
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <c10/core/ScalarType.h>

#include "data/tokenizer.h"
#include "formats/base_model.h"
#include "formats/open_model.h"
#include "run/config.h"

namespace braid {

/// The positional MODEL.
void add_model(CLI::App& command, std::string& path);

/// --tokenizer, for a MODEL that comes without one.
void add_tokenizer(CLI::App& command, std::string& name);
/// The tokenizer that --tokenizer names, or the MODEL's own. Throws Error where there is none, or
/// one with more ids than the model has.
std::unique_ptr<Tokenizer> tokenizer_of(const OpenedModel& opened, const std::string& named);

/// Each as a line "note: ..." on standard error.
void print_notes(const std::vector<std::string>& notes);

/// A run's configuration: CONFIG.yaml [OVERLAY.yaml ...] [--set a.b=c ...].
struct RunConfigOptions {
  std::string config;
  std::vector<std::string> overlays, overrides;
  /// `resume` as the train command takes it.
  RunConfig load(const std::string& resume = "auto") const {
    return load_run_config_on_base(config, overrides, overlays, resume);
  }
};
/// Returns the option of CONFIG.yaml.
CLI::Option* add_run_config(CLI::App& command, RunConfigOptions& options);

/// Checks of numbers; CLI11's own messages name the largest number that a double holds.
CLI::Validator at_least_one();
CLI::Validator above_zero();

/// --dtype float64 | float32 | bfloat16; `dtype` holds the default.
void add_dtype(CLI::App& command, at::ScalarType& dtype);

}  // namespace braid
