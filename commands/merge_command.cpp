#include <iostream>
#include <memory>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/convert_report.h"

namespace braid {

Command merge_command(CLI::App& app) {
  struct Arguments {
    std::string base, to = "release", layout;
    std::vector<std::string> folders;  // adapters, and last the target
    double shard_gigabytes = 5;
    AdapterFolders adapters;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command =
      app.add_subcommand("merge", "A base and LoRA adapters to one model, and what rounding left");
  command
      ->add_option("BASE",
                   arguments->base,
                   "the model that the adapters were trained on: a folder with config.json and "
                   "safetensors, or a checkpoint; or a run with adapters of its own")
      ->required();
  command
      ->add_option("ADAPTER... DST",
                   arguments->folders,
                   "adapters (folders of PEFT's layout, or runs that trained some; none for a run "
                   "with its own), then the folder to be made")
      ->required();
  command
      ->add_option("--to",
                   arguments->to,
                   "release (its names) or hf (Hugging Face's names, experts stacked)")
      ->check(CLI::IsMember({"release", "hf"}).description(""))
      ->capture_default_str();
  command
      ->add_option(
          "--layout",
          arguments->layout,
          "same (rounded to the base's own formats), instruct (FP4 experts, FP8), base (FP8, F32 "
          "scales), bf16 or f32; default: the same, for hf of a quantized base bf16")
      ->check(CLI::IsMember(kLayouts).description(""));
  command
      ->add_option("--shard-gigabytes", arguments->shard_gigabytes, "longest file, in 10^9 bytes")
      ->check(real_number(1e-6, 1e6));
  add_any_base(*command, arguments->adapters);
  command->footer(
      "W + scale B A is computed in float32 and rounded once. A merge that was stopped goes on "
      "where it was when the command is given again.\n"
      "Examples:\n  braid merge flash adapter flash-tuned --layout bf16\n"
      "  braid merge runs/tuned-lora tuned-hf --to hf");
  return [arguments] {
    ConvertOptions options;
    options.to = arguments->to == "hf" ? ConvertTo::kHf : ConvertTo::kRelease;
    if (!arguments->layout.empty()) {
      options.stored_as = kLayouts.at(arguments->layout);
    }
    options.shard_bytes = static_cast<std::size_t>(arguments->shard_gigabytes * 1e9);
    auto adapters = arguments->adapters;
    adapters.folders.assign(arguments->folders.begin(), arguments->folders.end() - 1);
    options.merged = adapters;
    print(convert_and_show(arguments->base, arguments->folders.back(), options));
    return 0;
  };
}

}  // namespace braid
