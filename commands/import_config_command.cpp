#include <iostream>
#include <memory>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "core/file.h"
#include "core/output_place.h"
#include "formats/recipe.h"

namespace braid {
namespace {

struct ImportArguments {
  std::string file, output;
  RecipeOptions options;
  bool list = false;
};

void print_remarks(std::ostream& out,
                   const char* title,
                   const std::vector<RecipeRemark>& remarks,
                   const char* between) {
  if (!remarks.empty()) {
    out << title << ":\n";
  }
  for (const auto& [key, place, words] : remarks) {
    out << "  " << key << " (" << place << ")" << between << words << "\n";
  }
}

int print_table() {
  std::string framework;
  for (const auto& row : recipe_rows()) {
    if (row.framework != framework) {
      framework = row.framework;
      std::cout << framework << "\n";
    }
    std::cout << "  " << row.key << " -> " << (row.ours.empty() ? "nothing" : row.ours)
              << (row.how.empty() ? "" : ": " + row.how) << "\n";
  }
  return 0;
}

int import(const ImportArguments& arguments) {
  if (!arguments.output.empty()) {
    require_absent(arguments.output, "choose another name, or remove it");
  }
  const auto recipe = import_recipe(arguments.file, arguments.options);
  if (arguments.output.empty()) {
    std::cout << recipe.yaml;
  } else {
    write_file_atomically(arguments.output, recipe.yaml);
  }
  // Beside the configuration, which may be piped into a file.
  std::ostream& out = arguments.output.empty() ? std::cerr : std::cout;
  out << arguments.file << ": a recipe of " << recipe.framework << "\n";
  print_remarks(out, "translated", recipe.translated, " -> ");
  print_remarks(out, "not translated, or in part", recipe.not_translated, ": ");
  for (std::size_t i = 0; i < recipe.unneeded.size(); ++i) {
    out << (i == 0 ? "without effect on the result: " : ", ") << recipe.unneeded[i];
  }
  out << (recipe.unneeded.empty() ? "" : "\n") << std::flush;
  return 0;
}

}  // namespace

Command import_config_command(CLI::App& app) {
  auto arguments = std::make_shared<ImportArguments>();
  auto* command = app.add_subcommand("import-config",
                                     "An Axolotl or LLaMA-Factory recipe as a run's configuration");
  auto* file =
      command->add_option("FILE", arguments->file, "the recipe's YAML")->check(not_empty());
  command
      ->add_option("-o,--output",
                   arguments->output,
                   "file to be made; without it the configuration is printed, and what was not "
                   "translated goes to standard error")
      ->check(not_empty());
  command
      ->add_option("--processes",
                   arguments->options.processes,
                   "GPUs that the recipe ran on: each has micro batches of its own, and "
                   "train.global_batch_size counts all")
      ->check(whole_number(1, 1 << 20))
      ->capture_default_str();
  auto* list =
      command->add_flag("--list", arguments->list, "print the table of what is translated");
  command->footer(
      "Paths stay as they are; what was not translated is also at the head of the file.\n"
      "Examples:\n  braid import-config axolotl.yaml -o run.yaml\n"
      "  braid import-config --list");
  command->callback([file, list] {
    if (file->empty() && list->empty()) {
      throw CLI::RequiredError("FILE");
    }
  });
  return [arguments] { return arguments->list ? print_table() : import(*arguments); };
}

}  // namespace braid
