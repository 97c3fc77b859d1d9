#include <iostream>
#include <memory>

#include "checkpoint/safetensors.h"
#include "train/command_options.h"
#include "train/commands.h"
#include "train/open_model.h"
#include "train/probe.h"

namespace braid {

Command probe_command(CLI::App& app) {
  struct Arguments {
    std::string model, inputs, outputs;
    at::ScalarType dtype = at::kFloat;
    ProbeOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command =
      app.add_subcommand("probe", "The exact numbers of one forward (and backward) pass");
  add_model(*command, arguments->model);
  command
      ->add_option("--inputs",
                   arguments->inputs,
                   "safetensors with input_ids and optionally labels, int64 [B, S]")
      ->required();
  command->add_option("--outputs", arguments->outputs, "safetensors to write")->required();
  add_dtype(*command, arguments->dtype);
  command->add_flag("--gradients", arguments->options.gradients, "also grad.<name> of the loss");
  command->add_flag(
      "--streams", arguments->options.streams, "also streams.<layer> after each layer");
  command->add_flag(
      "--mtp", arguments->options.mtp, "also logits, loss and gradients of the MTP block");
  command->footer(
      "Example:\n  braid probe MODEL --inputs inputs.safetensors --outputs outputs.safetensors "
      "--dtype float64 --gradients");

  return [arguments] {
    const SafetensorsFile inputs(arguments->inputs);
    require(inputs.contains("input_ids"), arguments->inputs, ": holds no tensor 'input_ids'");
    const auto opened = open_model(arguments->model, arguments->dtype);
    const auto labels = inputs.contains("labels") ? inputs.tensor("labels") : at::Tensor();
    const auto results =
        probe(*opened.model, inputs.tensor("input_ids"), labels, arguments->options);
    write_safetensors(arguments->outputs, results);
    std::cout << arguments->outputs << ": " << results.size() << " tensors" << std::endl;
    return 0;
  };
}

}  // namespace braid
