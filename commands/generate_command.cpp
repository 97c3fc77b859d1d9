#include <iostream>
#include <memory>
#include <optional>

#include <nlohmann/json.hpp>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "core/error.h"
#include "formats/open_model.h"
#include "inference/generate.h"
#include "inference/generated_text.h"
#include "inference/prompts_file.h"
#include "run/table.h"

namespace braid {
namespace {

struct GenerateArguments {
  std::string model, tokenizer, prompts_file;
  std::vector<std::string> prompts, stop_texts;
  bool json = false;
  AdapterFolders adapters;
  ModelPlace place;
  GenerateOptions options;
};

const char* end_name(GenerationEnd end) {
  switch (end) {
    case GenerationEnd::kEndToken:
      return "end_token";
    case GenerationEnd::kStopped:
      return "stop_text";
    case GenerationEnd::kMaxTokens:
      return "max_tokens";
  }
  return nullptr;
}

// Prints continuations: a single one while it grows, several whole and in order.
class Printer {
 public:
  Printer(const GenerateArguments& arguments, const std::vector<std::string>& prompts)
      : prompts_(prompts),
        json_(arguments.json),
        num_samples_(arguments.options.num_samples),
        streams_(!json_ && prompts.size() == 1 && num_samples_ == 1),
        samples_(prompts.size() * static_cast<std::size_t>(num_samples_),
                 Sample(arguments.stop_texts)) {
    if (streams_) {
      std::cout << prompts_[0] << std::flush;
    }
  }

  /// Whether the continuation goes on.
  bool token(const Continuation& continuation, const std::string& bytes) {
    auto& sample = at(continuation);
    ++sample.tokens;
    show(sample, sample.text.add(bytes));
    return !sample.text.stopped();
  }

  void end(const Continuation& continuation, GenerationEnd end) {
    auto& sample = at(continuation);
    show(sample, sample.text.finish());
    sample.end = end;
    for (; next_ < samples_.size() && samples_[next_].end; ++next_) {
      print(next_);
    }
  }

 private:
  struct Sample {
    explicit Sample(const std::vector<std::string>& stop_texts) : text(stop_texts) {}
    GeneratedText text;
    std::string shown;
    int64_t tokens = 0;
    std::optional<GenerationEnd> end;
  };

  Sample& at(const Continuation& continuation) {
    return samples_[static_cast<std::size_t>(continuation.prompt * num_samples_ +
                                             continuation.sample)];
  }

  void show(Sample& sample, const std::string& text) const {
    if (streams_) {
      std::cout << text << std::flush;
    } else {
      sample.shown += text;
    }
  }

  void print(std::size_t index) const {
    const auto& sample = samples_[index];
    const auto num_samples = static_cast<std::size_t>(num_samples_);
    const std::size_t prompt = index / num_samples, number = index % num_samples;
    if (json_) {
      const nlohmann::ordered_json line = {{"prompt_index", prompt},
                                           {"sample_index", number},
                                           {"prompt", prompts_[prompt]},
                                           {"text", sample.shown},
                                           {"tokens", sample.tokens},
                                           {"end", end_name(*sample.end)}};
      std::cout << json_text(line);
    } else if (!streams_) {
      std::cout << "==> prompt " << prompt << ", sample " << number << " (" << sample.tokens
                << " tokens, " << end_name(*sample.end) << ")\n"
                << prompts_[prompt] << sample.shown;
    }
    std::cout << std::endl;
  }

  const std::vector<std::string>& prompts_;
  bool json_;
  int64_t num_samples_;
  bool streams_;
  std::vector<Sample> samples_;
  std::size_t next_ = 0;  // to be printed
};

int run_generate(const GenerateArguments& arguments) {
  auto prompts = arguments.prompts;
  if (!arguments.prompts_file.empty()) {
    const auto more = read_prompts(arguments.prompts_file);
    prompts.insert(prompts.end(), more.begin(), more.end());
  }
  if (prompts.empty()) {
    prompts = {""};
  }
  const auto opened = open_model(arguments.model,
                                 at::kFloat,
                                 /*trainable=*/false,
                                 arguments.adapters,
                                 arguments.place.find_device(),
                                 arguments.place.room);
  print_notes(opened.notes);
  const auto own_tokenizer = tokenizer_of(opened, arguments.tokenizer);
  const auto& tokenizer = *own_tokenizer;
  std::vector<std::vector<int64_t>> prompt_ids;
  for (const auto& prompt : prompts) {
    prompt_ids.push_back({tokenizer.begin_id()});
    const auto ids = tokenizer.encode(prompt);
    prompt_ids.back().insert(prompt_ids.back().end(), ids.begin(), ids.end());
  }
  Printer printer(arguments, prompts);
  generate(
      *opened.model,
      prompt_ids,
      tokenizer.end_id(),
      arguments.options,
      {.token = [&](const Continuation& continuation,
                    int64_t id) { return printer.token(continuation, tokenizer.decode({id})); },
       .end = [&](const Continuation& continuation,
                  GenerationEnd end) { printer.end(continuation, end); }});
  return 0;
}

void add_prompts(CLI::App& command, GenerateArguments& arguments) {
  command
      .add_option("--prompt",
                  arguments.prompts,
                  "a text to continue; repeatable; none = from the beginning of a document")
      ->allow_extra_args(false);
  command.add_option("--prompts-file",
                     arguments.prompts_file,
                     "more prompts: one a line, or in *.jsonl one {\"prompt\": ...} a line");
  command
      .add_option("--num-samples", arguments.options.num_samples, "continuations of each prompt")
      ->check(whole_number(1, int64_t{1} << 20))
      ->capture_default_str();
  command
      .add_option(
          "--batch-size", arguments.options.batch_size, "continuations computed together, at most")
      ->check(whole_number(1, int64_t{1} << 20))
      ->capture_default_str();
}

void add_ends(CLI::App& command, GenerateArguments& arguments) {
  command
      .add_option("--max-tokens", arguments.options.max_tokens, "stop after this many new tokens")
      ->check(whole_number(1, int64_t{1} << 30))
      ->capture_default_str();
  command.add_option("--stop", arguments.stop_texts, "end before this text; repeatable")
      ->allow_extra_args(false)
      ->check(not_empty());
}

}  // namespace

Command generate_command(CLI::App& app) {
  auto arguments = std::make_shared<GenerateArguments>();
  auto* command = app.add_subcommand("generate", "Continue texts with a trained model");
  add_model(*command, arguments->model);
  add_adapters_option(*command, arguments->adapters);
  add_tokenizer(*command, arguments->tokenizer);
  add_prompts(*command, *arguments);
  add_ends(*command, *arguments);
  add_device(*command, arguments->place);
  add_sampling(*command, arguments->options.sampling, arguments->options.seed);
  command->add_flag("--json", arguments->json, "one JSON object a sample");
  command->footer(
      "Example:\n  braid generate runs/quickstart --prompt 'The truth is' --temperature 0.7 --seed "
      "1\n  braid generate runs/quickstart --prompts-file prompts.txt --num-samples 4 --top-p 0.9 "
      "--stop '.' --json\n\n"
      "A sample is a function of the seed and of the numbers of its prompt and sample.");
  return [arguments] { return run_generate(*arguments); };
}

}  // namespace braid
