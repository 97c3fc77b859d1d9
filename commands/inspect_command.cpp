#include <algorithm>
#include <iostream>
#include <memory>

#include "commands/commands.h"
#include "core/error.h"
#include "formats/inspect.h"
#include "run/table.h"

namespace braid {
namespace {

struct InspectArguments {
  std::string path;
  bool verify = false, json = false;
};

void print(const Inspection& inspection, bool json) {
  auto facts = inspection.facts;
  if (!json) {
    std::cout << readable(facts);
    for (const auto& [file, problem] : inspection.verdicts) {
      const bool names_file = problem.starts_with(file.string());
      std::cout << (names_file ? "" : file.string() + ": ") << (problem.empty() ? "ok" : problem)
                << "\n";
    }
    return;
  }
  for (const auto& [file, problem] : inspection.verdicts) {
    facts["verified"].push_back(
        {{"file", file.string()}, {"sound", problem.empty()}, {"problem", problem}});
  }
  std::cout << json_text(facts) << "\n";
}

int run_inspect(const InspectArguments& arguments) {
  const auto inspection = inspect(arguments.path, arguments.verify);
  print(inspection, arguments.json);
  std::cout << std::flush;
  const auto& verdicts = inspection.verdicts;
  const auto bad = std::count_if(verdicts.begin(), verdicts.end(), [](const auto& verdict) {
    return !verdict.problem.empty();
  });
  require(bad == 0,
          arguments.path,
          ": ",
          bad,
          " of ",
          verdicts.size(),
          " files are not sound, as listed above");
  return 0;
}

}  // namespace

Command inspect_command(CLI::App& app) {
  auto arguments = std::make_shared<InspectArguments>();
  auto* command = app.add_subcommand(
      "inspect", "What a run, a checkpoint, a token store or a safetensors file holds");
  command
      ->add_option("path",
                   arguments->path,
                   "a run, a checkpoint, a token store, or a safetensors file or folder")
      ->required();
  command->add_flag(
      "--verify", arguments->verify, "check every byte; one line a file, status 1 if one is bad");
  command->add_flag("--json", arguments->json, "one JSON object");
  command->footer("Example:\n  braid inspect runs/quickstart --verify");
  return [arguments] { return run_inspect(*arguments); };
}

}  // namespace braid
