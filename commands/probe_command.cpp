#include <chrono>
#include <iomanip>
#include <iostream>
#include <memory>

#include "checkpoint/safetensors.h"
#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/interrupt.h"
#include "core/interruption.h"
#include "core/output_place.h"
#include "formats/open_model.h"
#include "inference/probe.h"
#include "kernels/weight.h"
#include "run/memory.h"
#include "run/progress.h"

namespace braid {
namespace {

// Where time and memory went.
void print_usage(double seconds, at::Device device) {
  const auto& times = product_times();
  std::cout << std::fixed << std::setprecision(1) << "time: " << seconds << " s";
  if (times.decoding > 0) {
    std::cout << ", of which products with quantized weights: multiplying " << times.multiplying
              << " s, decoding " << times.decoding << " s, waiting for the disk " << times.waiting
              << " s";
  }
  std::cout << "\nmemory: at most " << bytes_text(peak_resident_bytes()) << " resident, "
            << bytes_text(TensorMemory::take_peak(device)) << " in tensors of its own" << std::endl;
}

}  // namespace

Command probe_command(CLI::App& app) {
  struct Arguments {
    std::string model, inputs, outputs;
    at::ScalarType dtype = at::kFloat;
    ModelPlace place;
    ProbeOptions options;
    AdapterFolders adapters;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command =
      app.add_subcommand("probe", "The exact numbers of one forward (and backward) pass");
  add_model(*command, arguments->model);
  add_adapters_option(*command, arguments->adapters);
  command
      ->add_option("--inputs",
                   arguments->inputs,
                   "safetensors with input_ids and optionally labels, int64 [B, S]")
      ->required();
  command->add_option("--outputs", arguments->outputs, "safetensors to write")->required();
  add_dtype(*command, arguments->dtype);
  add_device(*command, arguments->place);
  command->add_flag("--gradients", arguments->options.gradients, "also grad.<name> of the loss");
  command->add_flag(
      "--streams", arguments->options.streams, "also streams.<layer> after each layer");
  command->add_flag(
      "--mtp", arguments->options.mtp, "also logits, loss and gradients of the MTP block");
  command->footer(
      "Example:\n  braid probe MODEL --inputs inputs.safetensors --outputs outputs.safetensors "
      "--dtype float64 --gradients");

  return [arguments] {
    TensorMemory::watch();
    const SafetensorsFile inputs(arguments->inputs);
    require(inputs.contains("input_ids"), arguments->inputs, ": holds no tensor 'input_ids'");
    // Now, not after all the work.
    std::vector<std::filesystem::path> read = {arguments->inputs, arguments->model};
    read.insert(read.end(), arguments->adapters.folders.begin(), arguments->adapters.folders.end());
    require_not_an_input(arguments->outputs, read);
    const InterruptGuard guard("stopping after this layer");
    const auto device = arguments->place.find_device();
    const auto opened = open_model(arguments->model,
                                   arguments->dtype,
                                   /*trainable=*/arguments->options.gradients,
                                   arguments->adapters,
                                   device,
                                   arguments->place.room);
    print_notes(opened.notes);
    const auto labels = inputs.contains("labels") ? inputs.tensor("labels") : at::Tensor();
    auto options = arguments->options;
    Progress progress("layers");
    options.on_layer = [&progress,
                        count = opened.model->config().num_hidden_layers](int64_t layer) {
      stop_if_interrupted();
      progress.update(layer + 1, count);
    };
    const auto begin = std::chrono::steady_clock::now();
    const auto results = probe(*opened.model, inputs.tensor("input_ids"), labels, options);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    write_safetensors(arguments->outputs, results);
    std::cout << arguments->outputs << ": " << results.size() << " tensors" << std::endl;
    print_usage(seconds.count(), device);
    return 0;
  };
}

}  // namespace braid
