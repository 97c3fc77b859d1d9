#include <csignal>
#include <cstdlib>
#include <iostream>

#include <malloc.h>
#include <unistd.h>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/interrupt.h"
#include "commands/standard_streams.h"
#include "core/error_message.h"
#include "core/file.h"
#include "core/interruption.h"
#include "core/version.h"
#include "kernels/cpu/isa.h"
#include "parallel/mpi_world.h"
#include "run/progress.h"
#include "run/threads.h"

namespace {

constexpr int kFailed = 1, kWrongCommandLine = 2;

int fail_with(const std::string& message) {
  braid::let_output_fail();
  std::cout.flush();  // what was said before
  braid::MpiWorld::wait_for_rank_0_to_report();
  std::cerr << "braid: " << message << std::endl;
  return kFailed;
}

// Idle OpenMP threads spin for milliseconds by default. On a machine that does anything else
// beside, that makes training up to 30 times slower, and libgomp reads the limit only when it is
// loaded: so the program sets it and starts itself again. A user's own setting is left alone.
void restart_with_short_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") == nullptr && std::getenv("OMP_WAIT_POLICY") == nullptr) {
    setenv("GOMP_SPINCOUNT", "2000", 1);
    execv("/proc/self/exe", argv);  // returns only on failure; then the default has to do
  }
}

// Tensors of a step come and go: memory that is kept spares the system from clearing it again.
void keep_freed_memory() {
  constexpr int kLargestThatStays = 32 << 20, kKept = 1 << 30;  // bytes
  mallopt(M_MMAP_THRESHOLD, kLargestThatStays);
  mallopt(M_TRIM_THRESHOLD, kKept);
}

}  // namespace

int main(int argc, char** argv) {
  braid::occupy_standard_descriptors();
  restart_with_short_spinning(argv);
  keep_freed_memory();
  std::signal(SIGXFSZ, SIG_IGN);  // a file beyond the user's limit is an error that names it
  const braid::StandardOutput output;
  braid::report_lost_pages();
  CLI::App app("Braid: training and fine-tuning of DeepSeek-V4 models", "braid");
  app.set_version_flag("--version", braid::version());
  app.failure_message([](const CLI::App* of, const CLI::Error& error) {
    return braid::message_of_wrong_line(*of, error);
  });
  app.require_subcommand(0,
                         1);  // none is reported below: CLI11 would hide a misspelt one behind it
  const std::vector<std::pair<std::string, braid::Command>> commands = {
      {"train", braid::train_command(app)},
      {"plan", braid::plan_command(app)},
      {"generate", braid::generate_command(app)},
      {"chat", braid::chat_command(app)},
      {"evaluate", braid::evaluate_command(app)},
      {"inspect", braid::inspect_command(app)},
      {"render", braid::render_command(app)},
      {"report", braid::report_command(app)},
      {"runs", braid::runs_command(app)},
      {"sweep", braid::sweep_command(app)},
      {"compare", braid::compare_command(app)},
      {"probe", braid::probe_command(app)},
      {"convert", braid::convert_command(app)},
      {"merge", braid::merge_command(app)},
      {"synthesize", braid::synthesize_command(app)},
      {"tokenize", braid::tokenize_command(app)},
      {"import-config", braid::import_config_command(app)},
  };
  try {
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      const bool helped = app.exit(error) == 0;
      std::cout.flush();
      return helped ? 0 : kWrongCommandLine;
    }
    if (braid::launched_as().rank == 0) {
      braid::show_work();
    }
    for (const auto& [name, command] : commands) {
      if (app.got_subcommand(name)) {
        static_cast<void>(braid::cpu_isa());  // a wrong BRAID_CPU_ISA ends here, not in a thread
        const auto threads = braid::use_threads();
        const bool computes = name == "generate" || name == "chat" || name == "evaluate" ||
                              name == "probe" || name == "convert" || name == "merge" ||
                              name == "tokenize";  // train says it itself
        if (computes && !threads.warning.empty()) {
          std::cerr << threads.warning << std::endl;
        }
        const int status = command();
        std::cout.flush();
        return status;
      }
    }
  } catch (const braid::Interrupted& stopped) {
    if (braid::launched_as().rank == 0) {
      std::cerr << "braid: stopped by " << braid::signal_name(stopped.signal())
                << "; the same command begins again, or continues what was saved" << std::endl;
    }
    return braid::status_of_signal(stopped.signal());
  } catch (const std::exception& error) {
    return fail_with(braid::message_of(error));
  }
  std::cerr << "A command is required." << std::endl << app.help();
  return kWrongCommandLine;
}
