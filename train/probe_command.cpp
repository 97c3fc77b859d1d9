#include <iostream>
#include <map>
#include <memory>

#include "checkpoint/safetensors.h"
#include "train/commands.h"
#include "train/open_model.h"
#include "train/probe.h"

namespace braid {

Command probe_command(CLI::App& app) {
  struct Arguments {
    std::string model, inputs, outputs, dtype = "float32";
    ProbeOptions options;
  };
  static const std::map<std::string, at::ScalarType> dtypes = {
      {"float64", at::kDouble}, {"float32", at::kFloat}, {"bfloat16", at::kBFloat16}};
  auto arguments = std::make_shared<Arguments>();
  auto* command =
      app.add_subcommand("probe", "The exact numbers of one forward (and backward) pass");
  command
      ->add_option("model", arguments->model, "a run, a checkpoint, or a folder with config.json")
      ->required();
  command
      ->add_option("--inputs",
                   arguments->inputs,
                   "safetensors with input_ids and optionally labels, int64 [B, S]")
      ->required();
  command->add_option("--outputs", arguments->outputs, "safetensors to write")->required();
  command->add_option("--dtype", arguments->dtype, "of the computation")
      ->check(CLI::IsMember({"float64", "float32", "bfloat16"}))
      ->capture_default_str();
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
    const auto opened = open_model(arguments->model, dtypes.at(arguments->dtype));
    const auto labels = inputs.contains("labels") ? inputs.tensor("labels") : at::Tensor();
    const auto results =
        probe(*opened.model, inputs.tensor("input_ids"), labels, arguments->options);
    write_safetensors(arguments->outputs, results);
    std::cout << arguments->outputs << ": " << results.size() << " tensors" << std::endl;
    return 0;
  };
}

}  // namespace braid
