#include <iostream>
#include <memory>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "core/error.h"
#include "run/run_list.h"
#include "run/table.h"

namespace braid {

Command runs_command(CLI::App& app) {
  struct Arguments {
    std::vector<std::string> folders = {"runs"};
    std::string order = "name";
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "runs", "Lists runs: how far they are, their losses, size and state, and what differs");
  command
      ->add_option("FOLDER", arguments->folders, "runs, or folders that hold runs (run.output_dir)")
      ->check(not_empty())
      ->capture_default_str();
  command
      ->add_option(
          "--sort", arguments->order, "losses from the lowest, other numbers from the largest")
      ->check(CLI::IsMember(run_orders()))
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "one JSON object");
  command->footer(
      "Below the list are the configuration keys in which the runs differ.\n\n"
      "Example:\n"
      "  braid runs\n"
      "  braid runs runs/quickstart runs/quickstart-residual-plain --sort validation");
  return [arguments] {
    auto runs = list_runs({arguments->folders.begin(), arguments->folders.end()});
    sort_runs(runs, arguments->order);
    if (arguments->json) {
      std::cout << json_text(runs_json(runs)) << std::endl;
    } else if (runs.empty()) {
      std::cout << "no runs here" << std::endl;
    } else {
      std::cout << runs_table(runs) << std::flush;
    }
    return 0;
  };
}

}  // namespace braid
