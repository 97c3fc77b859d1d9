#include <iostream>
#include <memory>

#include "train/commands.h"
#include "train/generate.h"
#include "train/open_model.h"

namespace braid {

Command generate_command(CLI::App& app) {
  struct Arguments {
    std::string model, prompt;
    GenerateOptions options;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command = app.add_subcommand("generate", "Continue a text with a trained model");
  command
      ->add_option("model", arguments->model, "a run, a checkpoint, or a folder with config.json")
      ->required();
  command->add_option("--prompt",
                      arguments->prompt,
                      "the text to continue; empty = from the beginning of a document");
  command
      ->add_option("--max-tokens", arguments->options.max_tokens, "stop after this many new tokens")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->capture_default_str();
  command
      ->add_option(
          "--temperature", arguments->options.temperature, "0 = always the most probable token")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--seed", arguments->options.seed, "of the draws")->capture_default_str();
  command->footer(
      "Example:\n  braid generate runs/quickstart --prompt 'The truth is' --temperature 0.7 --seed "
      "1");

  return [arguments] {
    const auto opened = open_model(arguments->model, at::kFloat);
    require(opened.tokenizer != nullptr,
            opened.source,
            ": comes without a tokenizer, so it cannot read a text");
    const auto& tokenizer = *opened.tokenizer;
    std::vector<int64_t> prompt = {tokenizer.begin_id()};
    for (const int64_t id : tokenizer.encode(arguments->prompt)) {
      prompt.push_back(id);
    }
    std::cout << arguments->prompt << std::flush;
    generate(*opened.model, prompt, tokenizer.end_id(), arguments->options, [&](int64_t id) {
      std::cout << tokenizer.decode({id}) << std::flush;
    });
    std::cout << std::endl;
    return 0;
  };
}

}  // namespace braid
