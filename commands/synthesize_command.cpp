#include <algorithm>
#include <iostream>
#include <memory>
#include <numeric>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/interrupt.h"
#include "core/error.h"
#include "formats/model_json.h"
#include "formats/synthesize.h"
#include "run/config.h"
#include "run/progress.h"

namespace braid {
namespace {

struct SynthesizeArguments {
  std::string path, model, layout = "instruct";
  std::vector<int64_t> layers, expert_layers;
  bool no_mtp = false, sizes_only = false;
  int64_t drafter_blocks = 0;
  uint64_t seed = 0;
  double shard_gigabytes = 5;
};

ModelConfig described_model(const std::string& path) {
  return std::filesystem::path(path).extension() == ".json" ? read_model_json(path)
                                                            : load_run_config(path, {}).model;
}

std::string joined(const std::vector<int64_t>& numbers) {
  std::string result;
  for (const int64_t number : numbers) {
    result += text(result.empty() ? "" : ", ", number);
  }
  return result;
}

int run_synthesize(const SynthesizeArguments& arguments) {
  auto config = described_model(arguments.model);
  std::vector<int64_t> layers = arguments.layers;
  if (layers.empty()) {
    layers.resize(static_cast<std::size_t>(config.num_hidden_layers));
    std::iota(layers.begin(), layers.end(), 0);
  }
  config = model_of_layers(config, layers, !arguments.no_mtp && arguments.drafter_blocks == 0);
  SynthesizeOptions options;
  options.layout = arguments.layout == "base" ? ReleaseLayout::kBase : ReleaseLayout::kInstruct;
  for (const int64_t layer : arguments.expert_layers) {
    require(std::ranges::find(layers, layer) != layers.end(),
            "--expert-bytes ",
            layer,
            ": is none of the layers to be made (",
            arguments.layers.empty() ? text("0 to ", layers.size() - 1) : joined(layers),
            ")");
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto& wanted = arguments.expert_layers;
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), layers[i]) != wanted.end()) {
      options.expert_layers.insert(static_cast<int64_t>(i));
    }
  }
  options.sizes_only = arguments.sizes_only;
  options.drafter_blocks = arguments.drafter_blocks;
  options.seed = arguments.seed;
  options.shard_bytes = static_cast<std::size_t>(arguments.shard_gigabytes * 1e9);
  {
    Progress progress("written", WorkUnit::kBytes);
    options.progress = [&progress](std::size_t done, std::size_t total) {
      progress.update(static_cast<int64_t>(done), static_cast<int64_t>(total));
    };
    const InterruptGuard guard;
    synthesize_release(arguments.path, config, options);
  }
  std::cout << arguments.path << ": " << config.num_hidden_layers << " layers, ";
  if (options.sizes_only) {
    std::cout << "all weights are holes" << std::endl;
  } else {
    std::cout << "experts of " << options.expert_layers.size() << " of them hold bytes"
              << std::endl;
  }
  return 0;
}

}  // namespace

Command synthesize_command(CLI::App& app) {
  auto arguments = std::make_shared<SynthesizeArguments>();
  auto* command = app.add_subcommand(
      "synthesize", "A checkpoint in the release's layout with random weights, of any size");
  command->add_option("FOLDER", arguments->path, "to be made")->required();
  command
      ->add_option("--model",
                   arguments->model,
                   "the architecture: a YAML with a model section, or a config.json")
      ->required();
  command->add_option("--layers", arguments->layers, "these decoder layers of it; default all")
      ->delimiter(',')
      ->check(whole_number(0, 9999));
  auto* expert_bytes =
      command
          ->add_option("--expert-bytes",
                       arguments->expert_layers,
                       "layers of the model whose experts hold bytes; default all. Those of the "
                       "others are holes in sparse files, which read as zeros")
          ->delimiter(',')
          ->check(whole_number(0, 9999));
  command
      ->add_flag("--sizes-only",
                 arguments->sizes_only,
                 "all weights are holes: takes no room, for `braid plan` of runs on such a base")
      ->excludes(expert_bytes);
  command->add_option("--layout", arguments->layout, "instruct (FP4 experts) or base (FP8)")
      ->check(CLI::IsMember({"instruct", "base"}));
  command->add_flag("--no-mtp", arguments->no_mtp, "leave the MTP block out");
  command
      ->add_option(
          "--drafter-blocks",
          arguments->drafter_blocks,
          "blocks of a DSpark drafter in the place of the MTP block, as the releases since "
          "July 2026 have 3")
      ->check(whole_number(0, 99));
  command->add_option("--seed", arguments->seed, "of the weights")->check(any_seed());
  command
      ->add_option("--shard-gigabytes", arguments->shard_gigabytes, "longest shard, in 10^9 bytes")
      ->check(real_number(1e-6, 1e6));
  command->footer(
      "Example, two full-width layers of Flash:\n  braid synthesize flash2 --model "
      "configs/models/flash.yaml --layers 2,3 --no-mtp\n"
      "All of it, to plan runs before it is here:\n  braid synthesize flash --model "
      "configs/models/flash.yaml --sizes-only");
  return [arguments] { return run_synthesize(*arguments); };
}

}  // namespace braid
