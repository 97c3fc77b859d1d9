#include <iostream>
#include <memory>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "plan/plan.h"
#include "run/table.h"

namespace braid {

Command plan_command(CLI::App& app) {
  struct Arguments {
    RunConfigOptions run;
    int64_t ranks = 1;
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "plan",
      "What a run would be on any number of ranks: parameters, operations, memory, traffic");
  add_run_config(*command, arguments->run)->required();
  command->add_option("--ranks", arguments->ranks, "processes that mpirun would start")
      ->check(whole_number(1, 1'000'000))
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "one JSON object");
  command->footer(
      "Allocates no weights and reads no data.\n\n"
      "Example:\n"
      "  braid plan configs/quickstart.yaml\n"
      "  braid plan configs/models/flash.yaml --ranks 512 --set train.global_batch_size=1024 \\\n"
      "    --set data.seq_len=4096 --set parallel.expert=64");
  return [arguments] {
    const auto plan = plan_training(arguments->run.load(), arguments->ranks);
    if (arguments->json) {
      std::cout << json_text(report(plan)) << std::endl;
    } else {
      print_plan(plan);
    }
    return 0;
  };
}

}  // namespace braid
