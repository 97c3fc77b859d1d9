#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/counted_epochs.h"
#include "commands/interrupt.h"
#include "commands/planned_speed.h"
#include "commands/room_check.h"
#include "commands/standard_streams.h"
#include "core/error_message.h"
#include "core/interruption.h"
#include "core/own_folder.h"
#include "formats/base_sizes.h"
#include "parallel/mpi_world.h"
#include "parallel/nccl.h"
#include "plan/plan.h"
#include "run/device_choice.h"
#include "run/run_folder.h"
#include "train/trainer.h"

namespace braid {
namespace {

constexpr int kStatusOfAlarm = 3;

ResumeFrom resume_from(const std::string& argument) {
  if (argument == "auto" || argument == "none") {
    return {argument == "auto" ? ResumeFrom::Kind::kAuto : ResumeFrom::Kind::kNone, {}};
  }
  require(std::filesystem::is_directory(argument),
          "--resume ",
          argument,
          ": no such folder; expected auto, none, or the folder of a checkpoint");
  require(!RunPaths{argument}.has_progress(),
          "--resume ",
          argument,
          ": is the folder of a run, not of a checkpoint; --resume auto continues the run of this "
          "configuration, and --resume ",
          (RunPaths{argument}.checkpoints() / "step-N").string(),
          " takes one of its checkpoints");
  require(std::filesystem::exists(std::filesystem::path(argument) / kManifestFile),
          "--resume ",
          argument,
          ": is no checkpoint, or was not saved to its end: it holds no ",
          kManifestFile,
          "; expected auto, none, or the folder of a checkpoint");
  return {ResumeFrom::Kind::kPath, argument};
}

// Ranks that would do different things are found before their messages stop fitting.
void require_same_config(const RunConfig& config, Communicator& ranks) {
  const auto texts = ranks.all_gather(dump_config(config), "configurations");
  for (std::size_t r = 1; r < texts.size(); ++r) {
    std::istringstream first(texts[0]), other(texts[r]);
    std::string want, got;
    while (want == got && std::getline(first, want)) {
      got.clear();
      std::getline(other, got);
    }
    require(texts[r] == texts[0],
            "rank ",
            r,
            " was started with other settings than rank 0: '",
            got,
            "' instead of '",
            want,
            "'; give all ranks the same files and --set");
  }
}

// An error on one rank ends all, after its message.
int ending_all_ranks_together(const RunConfig& config, const std::function<int()>& train) {
  const auto abort = [&](const std::string& message) {
    MpiWorld::abort(1, [&] {
      const auto rank = launched_as().rank;
      std::cerr << "braid: rank " << rank << ": " << message << std::endl;
      if (is_own_folder(config.run_dir())) {
        std::ofstream(RunPaths{config.run_dir()}.error_of_rank(rank)) << message << std::endl;
      }
    });
  };
  try {
    return train();
  } catch (const ErrorOfAnotherRank&) {
    MpiWorld::await_abort(1);
  } catch (const std::exception& error) {
    abort(message_of(error));
  }
  return 1;
}

}  // namespace

Command train_command(CLI::App& app) {
  struct Arguments {
    RunConfigOptions run;
    std::string resume = "auto";
    int64_t stop_at_step = 0;
    bool help_config = false, dry_run = false, profile = false, ignore_room = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command =
      app.add_subcommand("train", "Train a model as a YAML file says; continues a run that exists");
  auto* config = add_run_config(*command, arguments->run);
  command
      ->add_option("--resume",
                   arguments->resume,
                   "auto = from the run's newest checkpoint, none = start again (an earlier run is "
                   "moved aside), or a checkpoint's folder")
      ->capture_default_str();
  command
      ->add_option("--stop-at-step",
                   arguments->stop_at_step,
                   "save and stop after this step, with status 0; the same command continues")
      ->check(whole_number(1, 1'000'000'000'000'000));
  auto* help = command->add_flag(
      "--help-config", arguments->help_config, "print every key with default and meaning");
  command->add_flag("--dry-run",
                    arguments->dry_run,
                    "show what would run, as `braid plan` does for this number of ranks");
  command->add_flag("--profile",
                    arguments->profile,
                    "measure where the steps' time goes: a table at the end, and profile.json");
  command->add_flag("--ignore-room",
                    arguments->ignore_room,
                    "start even where memory or disk are surely too small");
  command->footer(
      "Example:\n"
      "  braid train configs/quickstart.yaml --set optimizer.learning_rate=1e-3\n"
      "  braid train configs/quickstart.yaml configs/ablations/residual-plain.yaml\n"
      "  braid train configs/quickstart.yaml --dry-run\n"
      "  mpirun -n 4 braid train configs/quickstart.yaml --set parallel.expert=2\n\n"
      "Ctrl-C saves and exits with status 130 (other signals: 128 + their number); the same "
      "command\n"
      "continues. An alarm that stops the run (stability.alarms) saves and exits with status 3.\n"
      "Under mpirun send SIGUSR1 to mpirun, or start it through scripts/mpirun.sh, "
      "which "
      "does.");
  command->callback([config, help] {
    if (config->empty() && help->empty()) {
      throw CLI::RequiredError("config");
    }
  });

  return [arguments] {
    if (arguments->help_config) {
      std::cout << describe_config<RunConfig>();
      return 0;
    }
    const auto run_config = arguments->run.load(arguments->resume);
    if (arguments->dry_run) {
      const auto launched = launched_as();
      if (launched.rank == 0) {
        const auto counted = with_counted_epochs(run_config);
        print_plan(plan_training(counted, launched.size, bytes_of_codes(counted.run.init_from)),
                   measured_speed(counted));
      }
      return 0;
    }
    const bool reports = launched_as().rank == 0;
    const InterruptGuard interrupt(reports ? "stopping after this step" : nullptr);
    let_output_fail();  // log.txt has it too
    const auto world = MpiWorld::was_launched() ? std::make_unique<MpiWorld>() : nullptr;
    const auto train = [&] {
      MpiWorld::set_timeout(run_config.parallel.timeout_seconds);
      const auto device = device_of(run_config.train.device, "train.device");
      auto ranks = world ? with_nccl(world->communicator()) : alone();
      require_same_config(run_config, *ranks);
      check_room(run_config, device, arguments->ignore_room, *ranks);
      Trainer trainer(run_config, resume_from(arguments->resume), std::move(ranks), device);
      if (arguments->profile) {
        trainer.profile();
      }
      const auto stops = [&] {
        return arguments->stop_at_step > 0 && trainer.step() >= arguments->stop_at_step;
      };
      const auto end = trainer.run(stops);
      if (end != TrainingEnd::kInterrupted) {
        return end == TrainingEnd::kFinished ? 0 : kStatusOfAlarm;
      }
      if (reports) {
        std::cout << "Stopped after step " << trainer.step() << "; the same command continues."
                  << std::endl;
      }
      // Asked for by --stop-at-step, even where a signal came as well.
      const bool planned = arguments->stop_at_step > 0 &&
                           (interruption() == 0 || trainer.step() == arguments->stop_at_step);
      return planned ? 0 : status_of_signal(interruption());
    };
    return world ? ending_all_ranks_together(run_config, train) : train();
  };
}

}  // namespace braid
