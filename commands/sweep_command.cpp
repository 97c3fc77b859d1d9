#include <filesystem>
#include <iostream>
#include <memory>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/interrupt.h"
#include "commands/planned_speed.h"
#include "commands/standard_streams.h"
#include "core/error.h"
#include "parallel/mpi_world.h"
#include "report/comparison_files.h"
#include "sweep/sweep.h"

namespace braid {
namespace {

// Of one thread, which most sweeps give each run; only estimates of time need it.
PlannedSpeed speed_for_estimates(const SweepConfig& config) {
  RunConfig one_thread;
  one_thread.train.threads = config.threads.value_or(1);
  return measured_speed(one_thread);
}

int run_sweep(Sweep& sweep, const SweepConfig& config) {
  const InterruptGuard interrupt("stopping after this step of each run");
  let_output_fail();  // log.txt has it, too
  sweep.run(std::filesystem::read_symlink("/proc/self/exe"));
  const auto comparison = sweep.comparison();
  std::cout << "\n" << comparison_markdown(comparison) << "\n";
  for (const auto& path : write_comparison(comparison, config.output)) {
    std::cout << "wrote " << path.string() << "\n";
  }
  std::cout << std::flush;
  if (const auto failed = sweep.failed(); failed > 0) {
    std::cerr << "braid: " << failed << (failed == 1 ? " run" : " runs")
              << " failed; the table says why, output.txt in the run's folder has it all. The same "
                 "command tries again"
              << std::endl;
    return 1;
  }
  return 0;
}

}  // namespace

Command sweep_command(CLI::App& app) {
  struct Arguments {
    std::string file;
    std::vector<std::string> overrides;
    bool dry_run = false, help_config = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "sweep", "An ablation: runs every arm and seed of a YAML file and compares them");
  auto* file = command->add_option("sweep", arguments->file, "the sweep's YAML file");
  command
      ->add_option("--set", arguments->overrides, "a key of the sweep: --set seeds=5; repeatable")
      ->allow_extra_args(false);
  command->add_flag("--dry-run", arguments->dry_run, "what would run, with time and memory");
  auto* help = command->add_flag(
      "--help-config", arguments->help_config, "print every key with default and meaning");
  command->footer(
      "Runs are processes of `braid train`, several at once as cores and memory allow. Ctrl-C "
      "makes them\nsave and stop; the same command continues, after a kill, too, and runs again "
      "only what was\nchanged. A run that fails stops no other one. docs/ablations.md has the "
      "rest.\n\n"
      "Example:\n"
      "  braid sweep configs/sweeps/residual.yaml --dry-run\n"
      "  braid sweep configs/sweeps/residual.yaml --set seeds=5");
  command->callback([file, help] {
    if (file->empty() && help->empty()) {
      throw CLI::RequiredError("sweep");
    }
  });
  return [arguments] {
    if (arguments->help_config) {
      std::cout << describe_config<SweepConfig>();
      return 0;
    }
    require(
        !MpiWorld::was_launched(),
        "braid sweep starts the ranks of its runs itself: give their number as the key `ranks`, "
        "and the command without mpirun");
    const auto config = load_sweep_config(arguments->file, arguments->overrides);
    Sweep sweep(config,
                arguments->dry_run ? speed_for_estimates(config) : PlannedSpeed{1, "not needed"});
    if (arguments->dry_run) {
      std::cout << sweep.plan_text() << std::flush;
      return 0;
    }
    return run_sweep(sweep, config);
  };
}

}  // namespace braid
