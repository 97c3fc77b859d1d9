#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/interrupt.h"
#include "core/error.h"
#include "core/temporary_folder.h"
#include "data/sample_documents.h"
#include "data/task_documents.h"
#include "data/token_store.h"
#include "data/token_store_build.h"
#include "formats/open_model.h"
#include "inference/evaluate.h"
#include "run/table.h"

namespace braid {
namespace {

namespace fs = std::filesystem;

struct EvaluateArguments {
  std::string model, tokenizer, task;
  std::vector<std::string> data;
  TextOptions texts;
  int64_t seq_len = 1024, batch_size = 4;
  at::ScalarType dtype = at::kFloat;
  bool json = false;
  AdapterFolders adapters;
};

fs::path made_temporary() {
  std::error_code unusable;
  const auto place = fs::temp_directory_path(unusable);
  const char* variable = std::getenv("TMPDIR");
  const auto advice = "; set TMPDIR to a folder that can be written";
  require(!unusable,
          "TMPDIR is ",
          variable == nullptr ? "/tmp" : variable,
          ", which is no folder",
          advice);
  std::string name = (place / "braid-evaluate-XXXXXX").string();
  require(
      mkdtemp(name.data()) != nullptr, "cannot make ", name, ": ", std::strerror(errno), advice);
  return name;
}

// A store stays readable when its file is gone, so nothing is left behind however the
// evaluation ends; a signal stops the preparation first.
std::unique_ptr<TokenStore> tokenized(const TextSource& source, const Tokenizer& tokenizer) {
  if (source.paths.size() == 1 && is_token_store(source.paths.front())) {
    auto store = std::make_unique<TokenStore>(source.paths.front());
    store->require_match(tokenizer);
    return store;
  }
  const auto formats = formats_of(source);
  require(!formats.pairs,
          name_of(source),
          ": holds preferences (prompt, chosen, rejected), which have no loss of their own; write "
          "the answers to judge as `completion`");
  print_notes(formats.lines);
  print_notes(formats.notes);
  const InterruptGuard guard;
  const TemporaryFolder folder(made_temporary());
  const auto file = folder.path() / "data.tokens";
  const auto build =
      build_token_stores({{source}, /*validation=*/{}}, tokenizer, {{file}, /*validation=*/{}});
  for (const auto& note : build.notes) {
    std::cerr << "note: " << note << std::endl;
  }
  return std::make_unique<TokenStore>(file);
}

std::unique_ptr<DocumentStore> documents_of(const EvaluateArguments& arguments,
                                            const Tokenizer& tokenizer) {
  if (arguments.task.empty()) {
    return tokenized(arguments.texts.source(arguments.data), tokenizer);
  }
  const InterruptGuard guard;
  return std::make_unique<TaskDocuments>(task_of(arguments.task), TaskSide::kValidation, tokenizer);
}

nlohmann::ordered_json report(const AnswerAccuracy& answers) {
  auto groups = nlohmann::ordered_json::array();
  for (const auto& group : answers.groups) {
    groups.push_back(
        {{"group", group.name}, {"answers", group.answers}, {"accuracy", group.accuracy()}});
  }
  return {{"answers", answers.all.answers},
          {"accuracy", answers.all.accuracy()},
          {"accuracy_by_group", groups}};
}

nlohmann::ordered_json report(const Evaluation& evaluation) {
  auto positions = nlohmann::ordered_json::array();
  for (const auto& [begin, end, loss, tokens, weight] : evaluation.positions) {
    if (tokens > 0) {
      positions.push_back({{"from", begin},
                           {"to", end - 1},
                           {"tokens", tokens},
                           {"loss", loss},
                           {"perplexity", std::exp(loss)}});
    }
  }
  nlohmann::ordered_json object = {{"tokens", evaluation.tokens},
                                   {"loss", evaluation.loss},
                                   {"perplexity", std::exp(evaluation.loss)},
                                   {"bits_per_byte", evaluation.bits_per_byte}};
  if (evaluation.answers) {
    object.update(report(*evaluation.answers));
  }
  object["positions"] = positions;
  return object;
}

int run_evaluate(const EvaluateArguments& arguments) {
  const auto opened = open_model(arguments.model, arguments.dtype, false, arguments.adapters);
  print_notes(opened.notes);
  const auto tokenizer = tokenizer_of(opened, arguments.tokenizer);
  const int64_t longest = opened.model->config().max_position_embeddings;
  require(arguments.seq_len <= longest,
          "--seq-len ",
          arguments.seq_len,
          " exceeds the model's max_position_embeddings ",
          longest);
  const auto store = documents_of(arguments, *tokenizer);
  const auto evaluation = evaluate(*opened.model, *store, arguments.seq_len, arguments.batch_size);
  require(std::isfinite(evaluation.loss),
          opened.source,
          ": its loss on this text is not finite, though its weights are: they are too large for "
          "--dtype to compute with, or some that stay in their files are not (`braid inspect "
          "--verify` tells); take an earlier checkpoint");
  nlohmann::ordered_json object = {{"model", opened.source},
                                   {"seq_len", arguments.seq_len},
                                   {"documents", store->num_documents()},
                                   {"text_bytes", store->text_bytes()}};
  object.update(report(evaluation));
  std::cout << (arguments.json ? json_text(object) + "\n" : readable(object)) << std::flush;
  return 0;
}

}  // namespace

Command evaluate_command(CLI::App& app) {
  auto arguments = std::make_shared<EvaluateArguments>();
  auto* command = app.add_subcommand(
      "evaluate", "Loss, perplexity and bits per byte of a model on a text, also by position");
  add_model(*command, arguments->model);
  add_adapters_option(*command, arguments->adapters);
  add_tokenizer(*command, arguments->tokenizer);
  auto* data = command
                   ->add_option("--data",
                                arguments->data,
                                "text and JSONL, or folders of them, as data.train takes them; or "
                                "a run's token store, "
                                "data/validation.tokens")
                   ->check(not_empty());
  add_task(*command, arguments->task)->excludes(data);
  add_text_options(*command, arguments->texts);
  command->add_option("--seq-len", arguments->seq_len, "longest context a token is judged with")
      ->check(whole_number(2, int64_t{1} << 30))
      ->capture_default_str();
  command->add_option("--batch-size", arguments->batch_size, "sequences computed together")
      ->check(whole_number(1, int64_t{1} << 20))
      ->capture_default_str();
  add_dtype(*command, arguments->dtype);
  command->add_flag("--json", arguments->json, "one JSON object");
  command->footer(
      "Example:\n  braid evaluate runs/quickstart --data corpus/fortunes --document-separator "
      "'%' --seq-len 512\n"
      "  braid evaluate runs/recall --task '{task: recall, distances: [32, 200]}'\n\n"
      "A position counts the tokens of its context before it; perplexity = exp(loss).");
  require_one_of(*command, {"--data", "--task"});
  return [arguments] { return run_evaluate(*arguments); };
}

}  // namespace braid
