#pragma once
#include <functional>

#include <CLI/CLI.hpp>

namespace braid {

/// A command declares its flags and returns what it does once they are parsed: the exit status.
using Command = std::function<int()>;
Command train_command(CLI::App& app);
Command plan_command(CLI::App& app);
Command generate_command(CLI::App& app);
Command evaluate_command(CLI::App& app);
Command inspect_command(CLI::App& app);
Command probe_command(CLI::App& app);
Command render_command(CLI::App& app);
Command report_command(CLI::App& app);
Command runs_command(CLI::App& app);
Command compare_command(CLI::App& app);
Command sweep_command(CLI::App& app);
Command synthesize_command(CLI::App& app);
Command convert_command(CLI::App& app);
Command tokenize_command(CLI::App& app);
Command chat_command(CLI::App& app);
Command merge_command(CLI::App& app);
Command import_config_command(CLI::App& app);

}  // namespace braid
