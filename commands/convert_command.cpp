#include <iostream>
#include <map>
#include <memory>

#include "checkpoint/mtp_adapter.h"
#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/convert_report.h"
#include "core/error.h"
#include "formats/adapters.h"

namespace braid {
namespace {

const std::map<std::string, ConvertTo> kTo = {{"release", ConvertTo::kRelease},
                                              {"hf", ConvertTo::kHf},
                                              {"checkpoint", ConvertTo::kCheckpoint}};
constexpr const char* kToPeft = "peft";

int export_adapter(const std::string& source, const std::string& target) {
  const auto written = write_adapter(source, target);
  print_notes(written.notes);
  std::cout << target << ": adapters of " << written.matrices << " matrices, " << written.parameters
            << " parameters, in PEFT's layout\n";
  if (written.of_mtp > 0) {
    std::cout << "of the MTP block, which Hugging Face's models lack: " << written.of_mtp
              << " matrices, in " << kMtpAdapter << ", which PEFT passes over and Braid reads\n";
  }
  return 0;
}

}  // namespace

Command convert_command(CLI::App& app) {
  struct Arguments {
    std::string source, target, to, layout;
    double shard_gigabytes = 5;
    ConvertOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand(
      "convert",
      "A model to the published format, Hugging Face's, or a Braid checkpoint; its adapters to "
      "PEFT's");
  command
      ->add_option("SRC",
                   arguments->source,
                   "a run, a checkpoint, or a folder with config.json and safetensors")
      ->required();
  command->add_option("DST", arguments->target, "folder to be made")->required();
  command
      ->add_option(
          "--to",
          arguments->to,
          "release (its names), hf (Hugging Face's names, experts stacked), checkpoint, or "
          "peft (the LoRA adapters of SRC alone)")
      ->required()
      ->check(CLI::IsMember({"release", "hf", "checkpoint", kToPeft}).description(""));
  command
      ->add_option(
          "--layout",
          arguments->layout,
          "same, instruct (FP4 experts, FP8), base (FP8, F32 scales), bf16 or f32; default: "
          "the same, for hf of a quantized model bf16")
      ->check(CLI::IsMember(kLayouts).description(""));
  command
      ->add_option("--shard-gigabytes", arguments->shard_gigabytes, "longest file, in 10^9 bytes")
      ->check(real_number(1e-6, 1e6));
  command->footer(
      "A conversion that was stopped goes on where it was when the command is given again.\n"
      "Examples:\n  braid convert runs/tuned flash-tuned --to release\n"
      "  braid convert runs/quickstart quickstart-hf --to hf\n"
      "  braid convert runs/tuned-lora adapter --to peft");
  return [arguments] {
    if (arguments->to == kToPeft) {
      require(arguments->layout.empty(), "--layout is for weights; adapters are written in F32");
      return export_adapter(arguments->source, arguments->target);
    }
    arguments->options.to = kTo.at(arguments->to);
    if (!arguments->layout.empty()) {
      arguments->options.stored_as = kLayouts.at(arguments->layout);
    }
    arguments->options.shard_bytes = static_cast<std::size_t>(arguments->shard_gigabytes * 1e9);
    print(convert_and_show(arguments->source, arguments->target, arguments->options));
    return 0;
  };
}

}  // namespace braid
