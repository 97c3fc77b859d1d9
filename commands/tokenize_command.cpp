#include <iostream>
#include <memory>

#include <nlohmann/json.hpp>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/interrupt.h"
#include "core/error.h"
#include "core/file.h"
#include "core/output_place.h"
#include "data/token_store_build.h"
#include "data/tokenize.h"
#include "run/table.h"

namespace braid {
namespace {

struct TokenizeArguments {
  std::vector<std::string> texts;
  std::string tokenizer, output;
  TextOptions options;
  bool rows = false, json = false;
};

TokenStatistics write_store(const TokenizeArguments& arguments, const Tokenizer& tokenizer) {
  const auto source = arguments.options.source(arguments.texts);
  const auto build = build_token_stores(
      {{source}, /*validation=*/{}}, tokenizer, {{arguments.output}, /*validation=*/{}});
  print_notes(build.notes);
  if (!build.rebuilt) {
    print_notes({arguments.output + ": was there already, made from the same texts"});
  }
  return statistics_of(TokenStore(arguments.output));
}

TokenStatistics write_rows(const TokenizeArguments& arguments, const Tokenizer& tokenizer) {
  const auto source = arguments.options.source(arguments.texts);
  std::vector<std::string> notes;
  TokenStatistics statistics;
  if (arguments.output.empty()) {
    statistics = write_token_rows(
        source, tokenizer, [](std::string_view row) { std::cout << row; }, notes);
    std::cout.flush();
  } else {
    require_not_an_input(arguments.output, source.paths);
    AtomicFile file(arguments.output);
    statistics = write_token_rows(
        source, tokenizer, [&](std::string_view row) { file.write(row); }, notes);
    file.commit();
  }
  print_notes(notes);
  return statistics;
}

nlohmann::ordered_json report(const TokenizeArguments& arguments,
                              const Tokenizer& tokenizer,
                              const TokenStatistics& statistics) {
  const auto tokens = static_cast<double>(statistics.tokens);
  return {{"output", arguments.output.empty() ? "standard output" : arguments.output},
          {"tokenizer", tokenizer.name()},
          {"documents", statistics.documents},
          {"tokens", statistics.tokens},
          {"text_bytes", statistics.text_bytes},
          {"bytes_per_token", static_cast<double>(statistics.text_bytes) / tokens},
          {"tokens_of_longest_document", statistics.longest},
          {"special_tokens", statistics.special},
          {"special_share", static_cast<double>(statistics.special) / tokens}};
}

int run_tokenize(const TokenizeArguments& arguments) {
  require(arguments.rows || !arguments.output.empty(),
          "tokenize: where to? Name a token store with --output, or print rows with --jsonl");
  const auto tokenizer = tokenizer_called(arguments.tokenizer);
  TokenStatistics statistics;
  {
    const InterruptGuard guard;
    statistics = (arguments.rows ? write_rows : write_store)(arguments, *tokenizer);
  }
  const auto facts = report(arguments, *tokenizer, statistics);
  // Beside rows there is nothing else on standard output.
  (arguments.rows && arguments.output.empty() ? std::cerr : std::cout)
      << (arguments.json ? json_text(facts) + "\n" : readable(facts)) << std::flush;
  return 0;
}

}  // namespace

Command tokenize_command(CLI::App& app) {
  auto arguments = std::make_shared<TokenizeArguments>();
  auto* command = app.add_subcommand(
      "tokenize", "Texts to a token store, ahead of training, or to rows of ids");
  command
      ->add_option(
          "texts", arguments->texts, "files and folders of text or JSONL, as train takes them")
      ->required()
      ->check(not_empty());
  command
      ->add_option(
          "--tokenizer",
          arguments->tokenizer,
          "bytes, a tokenizer.json, a braid_tokenizer.yaml, or a folder that has one or is "
          "a run")
      ->required();
  command
      ->add_option(
          "-o,--output", arguments->output, "the token store, or the file of rows, to be made")
      ->check(not_empty());
  add_text_options(*command, arguments->options);
  command->add_flag(
      "--jsonl",
      arguments->rows,
      "instead of a store, a line {\"text\": ..., \"ids\": [...]} a document; without "
      "--output on standard output");
  command->add_flag("--json", arguments->json, "the statistics as one JSON object");
  command->footer(
      "Example:\n  braid tokenize corpus/fortunes --document-separator '%' --tokenizer "
      "DeepSeek-V4-Flash/tokenizer.json -o fortunes.tokens\n\n"
      "data.train, data.validation and evaluate --data take the store in place of its texts. The "
      "texts are encoded on all threads (OMP_NUM_THREADS).");
  return [arguments] { return run_tokenize(*arguments); };
}

}  // namespace braid
