#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/interrupt.h"
#include "formats/convert.h"
#include "run/memory.h"
#include "run/progress.h"

namespace braid {
namespace {

const std::map<std::string, ConvertTo> kTo = {{"release", ConvertTo::kRelease},
                                              {"hf", ConvertTo::kHf},
                                              {"checkpoint", ConvertTo::kCheckpoint}};

const std::map<std::string, StoredAs> kLayouts = {{"same", StoredAs::kSame},
                                                  {"instruct", StoredAs::kInstruct},
                                                  {"base", StoredAs::kBase},
                                                  {"bf16", StoredAs::kBfloat16},
                                                  {"f32", StoredAs::kFloat32}};

std::string counted(int64_t tensors) {
  return std::to_string(tensors) + (tensors == 1 ? " tensor" : " tensors");
}

// Classes that were rounded one by one, the others by their forms.
void print(const ConvertReport& report) {
  std::map<std::pair<std::string, std::string>, ConvertedClass> exact;
  int64_t tensors = 0, bytes = 0;
  for (const auto& c : report.classes) {
    tensors += c.tensors;
    bytes += c.bytes;
    if (c.largest_error > 0) {
      std::cout << c.name << ": " << c.from << " -> " << c.to << ", " << counted(c.tensors) << ", "
                << bytes_text(c.bytes) << ", largest rounding error " << std::setprecision(3)
                << c.largest_error << ", relative (L2) " << std::sqrt(c.squared_error / c.squares)
                << "\n";
      continue;
    }
    auto& sum = exact[{c.from, c.to}];
    sum.tensors += c.tensors;
    sum.bytes += c.bytes;
  }
  for (const auto& [forms, c] : exact) {
    std::cout << (forms.first == forms.second ? forms.first + " as it was"
                                              : forms.first + " -> " + forms.second + ", exact")
              << ": " << counted(c.tensors) << ", " << bytes_text(c.bytes) << "\n";
  }
  for (const auto& note : report.notes) {
    std::cout << "note: " << note << "\n";
  }
  if (!report.left_out.empty()) {
    std::cout << "left out, for Hugging Face has no MTP block: " << report.left_out.size()
              << " tensors (" << report.left_out.front() << ", ...)\n";
  }
  std::cout << "in all " << tensors << " parameters, " << bytes_text(bytes) << ", in "
            << report.shards << (report.shards == 1 ? " file" : " files");
  if (report.shards_found > 0) {
    std::cout << " (" << report.shards_found << " were there from a process that was stopped)";
  }
  std::cout << std::endl;
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
      "convert", "A model to the published format, Hugging Face's, or a Braid checkpoint");
  command
      ->add_option("SRC",
                   arguments->source,
                   "a run, a checkpoint, or a folder with config.json and safetensors")
      ->required();
  command->add_option("DST", arguments->target, "folder to be made")->required();
  command
      ->add_option("--to",
                   arguments->to,
                   "release (its names), hf (Hugging Face's names, experts stacked) or checkpoint")
      ->required()
      ->check(CLI::IsMember(kTo).description(""));
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
      "  braid convert runs/quickstart quickstart-hf --to hf");
  return [arguments] {
    arguments->options.to = kTo.at(arguments->to);
    if (!arguments->layout.empty()) {
      arguments->options.stored_as = kLayouts.at(arguments->layout);
    }
    arguments->options.shard_bytes = static_cast<std::size_t>(arguments->shard_gigabytes * 1e9);
    ConvertReport report;
    {
      Progress progress("converted", WorkUnit::kBytes);
      arguments->options.progress = [&progress](std::size_t done, std::size_t total) {
        progress.update(static_cast<int64_t>(done), static_cast<int64_t>(total));
      };
      const InterruptGuard guard("stopping after this tensor");
      report = convert(arguments->source, arguments->target, arguments->options);
    }
    print(report);
    return 0;
  };
}

}  // namespace braid
