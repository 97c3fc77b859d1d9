#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/interrupt.h"
#include "core/error.h"
#include "core/temporary_folder.h"
#include "data/token_store_build.h"
#include "formats/open_model.h"
#include "inference/evaluate.h"
#include "run/progress.h"
#include "run/table.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

struct EvaluateArguments {
  std::string model, tokenizer, document_separator, text_key = "text";
  std::vector<std::string> data;
  int64_t seq_len = 1024, batch_size = 4;
  at::ScalarType dtype = at::kFloat;
  bool json = false;
};

fs::path made_temporary() {
  std::string name = (fs::temp_directory_path() / "braid-evaluate-XXXXXX").string();
  require(mkdtemp(name.data()) != nullptr, "cannot make ", name, ": ", std::strerror(errno));
  return name;
}

// A mapped store stays readable when its file is gone, so nothing is left behind however the
// evaluation ends. Signals wait until the folder is removed.
std::unique_ptr<TokenStore> tokenized(const TextSource& source, const Tokenizer& tokenizer) {
  std::unique_ptr<TokenStore> store;
  int signal = 0;
  {
    const InterruptGuard guard;
    const TemporaryFolder folder(made_temporary());
    const auto file = folder.path() / "data.tokens";
    build_token_stores(
        {{source}, /*validation=*/{}}, tokenizer, {{file}, /*validation=*/{}, /*text=*/{}});
    store = std::make_unique<TokenStore>(file);
    signal = guard.signal();
  }
  if (signal != 0) {
    std::raise(signal);
  }
  return store;
}

nlohmann::ordered_json report(const Evaluation& evaluation) {
  auto positions = nlohmann::ordered_json::array();
  for (const auto& [begin, end, loss, tokens] : evaluation.positions) {
    if (tokens > 0) {
      positions.push_back({{"from", begin},
                           {"to", end - 1},
                           {"tokens", tokens},
                           {"loss", loss},
                           {"perplexity", std::exp(loss)}});
    }
  }
  return {{"tokens", evaluation.tokens},
          {"loss", evaluation.loss},
          {"perplexity", std::exp(evaluation.loss)},
          {"bits_per_byte", evaluation.bits_per_byte},
          {"positions", positions}};
}

int run_evaluate(const EvaluateArguments& arguments) {
  const auto opened = open_model(arguments.model, arguments.dtype);
  print_notes(opened.notes);
  const auto tokenizer = tokenizer_of(opened, arguments.tokenizer);
  const int64_t longest = opened.model->config().max_position_embeddings;
  require(arguments.seq_len <= longest,
          "--seq-len ",
          arguments.seq_len,
          " exceeds the model's max_position_embeddings ",
          longest);
  const auto store = tokenized({{arguments.data.begin(), arguments.data.end()},
                                arguments.document_separator,
                                arguments.text_key},
                               *tokenizer);
  Evaluation evaluation;
  {
    Progress progress("evaluated tokens");
    evaluation =
        evaluate(*opened.model,
                 *store,
                 arguments.seq_len,
                 arguments.batch_size,
                 [&progress](int64_t done, int64_t total) { progress.update(done, total); });
  }
  nlohmann::ordered_json object = {{"model", opened.source},
                                   {"seq_len", arguments.seq_len},
                                   {"documents", store->num_documents()},
                                   {"text_bytes", store->text_bytes()}};
  object.update(report(evaluation));
  std::cout << (arguments.json ? object.dump() + "\n" : readable(object)) << std::flush;
  return 0;
}

}  // namespace

Command evaluate_command(CLI::App& app) {
  auto arguments = std::make_shared<EvaluateArguments>();
  auto* command = app.add_subcommand(
      "evaluate", "Loss, perplexity and bits per byte of a model on a text, also by position");
  add_model(*command, arguments->model);
  add_tokenizer(*command, arguments->tokenizer);
  command
      ->add_option(
          "--data", arguments->data, "text and JSONL, or folders of them, as data.train takes them")
      ->required();
  command->add_option("--document-separator",
                      arguments->document_separator,
                      "a line of exactly this separates documents; empty = one per file");
  command
      ->add_option("--text-key", arguments->text_key, "JSONL: the key that holds a line's document")
      ->capture_default_str();
  command->add_option("--seq-len", arguments->seq_len, "longest context a token is judged with")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 30))
      ->capture_default_str();
  command->add_option("--batch-size", arguments->batch_size, "sequences computed together")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  add_dtype(*command, arguments->dtype);
  command->add_flag("--json", arguments->json, "one JSON object");
  command->footer(
      "Example:\n  braid evaluate runs/quickstart --data corpus/fortunes --document-separator "
      "'%' --seq-len 512\n\n"
      "A position counts the tokens of its context before it; perplexity = exp(loss).");
  return [arguments] { return run_evaluate(*arguments); };
}

}  // namespace braid
