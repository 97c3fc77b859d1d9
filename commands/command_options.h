#pragma once
// Flags that several commands have.
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <c10/core/ScalarType.h>

#include "run/config.h"

namespace braid {

/// The positional MODEL.
void add_model(CLI::App& command, std::string& path);

/// A run's configuration: CONFIG.yaml [OVERLAY.yaml ...] [--set a.b=c ...].
struct RunConfigOptions {
  std::string config;
  std::vector<std::string> overlays, overrides;
  RunConfig load() const { return load_run_config(config, overrides, overlays); }
};
/// Returns the option of CONFIG.yaml.
CLI::Option* add_run_config(CLI::App& command, RunConfigOptions& options);

/// Checks of numbers; CLI11's own messages name the largest number that a double holds.
CLI::Validator at_least_one();
CLI::Validator above_zero();

/// --dtype float64 | float32 | bfloat16; `dtype` holds the default.
void add_dtype(CLI::App& command, at::ScalarType& dtype);

}  // namespace braid
