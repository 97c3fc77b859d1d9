#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <thread>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/interrupt.h"
#include "commands/plot_options.h"
#include "core/error.h"
#include "core/interruption.h"
#include "core/output_place.h"
#include "report/page.h"
#include "report/run_page.h"
#include "report/svg_plot.h"
#include "run/run_folder.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

struct ReportArguments {
  std::string run, output;
  MetricPlot plot;
  bool follows = false;
  int64_t every_seconds = 10;
};

// What tells whether a run has written something since.
struct Written {
  fs::file_time_type at;
  std::uintmax_t bytes = 0;

  static Written of(const fs::path& metrics) {
    std::error_code absent;
    Written written{fs::last_write_time(metrics, absent), 0};
    const auto bytes = fs::file_size(metrics, absent);
    written.bytes = absent ? 0 : bytes;
    return written;
  }
  bool operator==(const Written&) const = default;
};

// Not longer than a signal may wait.
void wait_seconds(int64_t seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (std::chrono::steady_clock::now() < end) {
    stop_if_interrupted();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void say(const fs::path& output, const RunCurves& run) {
  std::cout << output.string() << ": " << run.name << ", " << run.state << ", step "
            << run.last_step() << " of " << run.max_steps << std::endl;
}

// Every file that the run needs, which no page may replace.
void require_no_file_of(const fs::path& output, const RunPaths& run) {
  require_not_an_input(output,
                       {run.config(),
                        run.metrics(),
                        run.log(),
                        run.profile(),
                        run.validation_text(),
                        run.token_stores(),
                        run.checkpoints()});
}

// While the run trains, the page is written again whenever it has written something; once it has
// ended, a last time, as a page that stays.
void follow(const ReportArguments& arguments, const RunPaths& paths, const fs::path& output) {
  const InterruptGuard signals(nullptr);
  std::optional<Written> shown;
  for (;;) {
    const auto now = Written::of(paths.metrics());
    const auto run = read_run(paths.folder);
    const bool goes_on = run.state == "running";
    if (!shown || *shown != now || !goes_on) {
      write_page(output, run_page(run, goes_on ? static_cast<int>(arguments.every_seconds) : 0));
      say(output, run);
      shown = now;
    }
    if (!goes_on) {
      return;
    }
    wait_seconds(arguments.every_seconds);
  }
}

int run_report(const ReportArguments& arguments) {
  require(fs::is_directory(arguments.run),
          arguments.run,
          ": no such folder; expected the folder of a run");
  const RunPaths paths{arguments.run};
  const fs::path output = arguments.output.empty() ? paths.report() : fs::path(arguments.output);
  require_no_file_of(output, paths);
  if (!arguments.plot.metric.empty()) {
    require(!arguments.output.empty(), "--plot needs -o FILE.svg, the file to draw into");
    const auto run = read_run(paths.folder);
    write_svg(output, svg_of_run(run, arguments.plot));
    say(output, run);
    return 0;
  }
  if (arguments.follows) {
    follow(arguments, paths, output);
    return 0;
  }
  const auto run = read_run(paths.folder);
  write_page(output, run_page(run));
  say(output, run);
  return 0;
}

}  // namespace

Command report_command(CLI::App& app) {
  auto arguments = std::make_shared<ReportArguments>();
  auto* command =
      app.add_subcommand("report", "Writes a page of a run's curves, also while it trains");
  command->add_option("RUN", arguments->run, "the folder of a run")->required()->check(not_empty());
  command
      ->add_option("-o,--output",
                   arguments->output,
                   "the page, or the plot's file; none = report.html in RUN")
      ->check(not_empty());
  auto* plot = add_plot_options(*command, arguments->plot);
  command
      ->add_flag("--follow",
                 arguments->follows,
                 "while the run trains, write the page again when there is something new; a "
                 "browser that shows it loads it again")
      ->excludes(plot);
  command->add_option("--every", arguments->every_seconds, "seconds between two looks at the run")
      ->check(whole_number(1, 3600))
      ->capture_default_str();
  command->footer(
      "One HTML file that needs no network: losses, learning rate, gradients, experts, attention, "
      "speed, monitors, samples of text, events, configuration.\n\n"
      "Example:\n"
      "  braid report runs/quickstart\n"
      "  braid report runs/quickstart -o quickstart.html --follow\n"
      "  braid report runs/quickstart --plot loss -o loss.svg");
  return [arguments] { return run_report(*arguments); };
}

}  // namespace braid
