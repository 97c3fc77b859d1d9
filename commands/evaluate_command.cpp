#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <optional>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/evaluation_report.h"
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

struct EvaluateArguments {
  std::string model, tokenizer, task;
  std::vector<std::string> data;
  TextOptions texts;
  int64_t seq_len = 1024, batch_size = 4;
  at::ScalarType dtype = at::kFloat;
  ModelPlace place;
  bool json = false;
  AdapterFolders adapters;
  std::string against;
  int64_t samples = 0;
  GenerateOptions answers;
};

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
  const TemporaryFolder folder = made_temporary_folder("evaluate");
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

// Where the command line leaves it to MODEL.
constexpr const char* kBase = "base";
constexpr const char* kNone = "none";

/// Judges models on one text.
class Judge {
 public:
  Judge(const EvaluateArguments& arguments, const OpenedModel& first)
      : arguments_(arguments), tokenizer_(tokenizer_of(first, arguments.tokenizer)) {
    require_context(first);  // before the text is read
    store_ = documents_of(arguments, *tokenizer_);
    if (arguments.samples > 0) {
      choose_prompts(first);
    }
  }

  JudgedModel judge(const OpenedModel& opened, const std::string& name) const {
    JudgedModel judged{.name = name,
                       .evaluation = evaluate(*opened.model,
                                              *store_,
                                              arguments_.seq_len,
                                              arguments_.batch_size,
                                              /*grid=*/nullptr,
                                              tokenizer_.get())};
    require(std::isfinite(judged.evaluation.loss),
            name,
            ": its loss on this text is not finite, though its weights are: they are too large for "
            "--dtype to compute with, or some that stay in their files are not (`braid inspect "
            "--verify` tells); take an earlier checkpoint");
    if (!prompts_.empty()) {
      judged.answers = give_answers(*opened.model, *tokenizer_, prompts_, answer_options());
    }
    return judged;
  }

  // The model that another one is compared with.
  JudgedModel judge_other(const std::string& folder) const {
    const auto opened = open_model(folder,
                                   arguments_.dtype,
                                   /*trainable=*/false,
                                   /*adapters=*/{},
                                   arguments_.place.find_device(),
                                   arguments_.place.room);
    print_notes(opened.notes);
    if (opened.tokenizer) {
      const auto own = tokenizer_of(opened, "");
      require(own->name() == tokenizer_->name(),
              opened.source,
              ": has the tokenizer '",
              own->name(),
              "', and the model that it is compared with '",
              tokenizer_->name(),
              "': losses of other tokens cannot be compared");
    }
    require_vocabulary(opened, *tokenizer_);
    require_context(opened);
    return judge(opened, opened.source);
  }

  EvaluationReport report() const {
    return {.model = {},
            .adapters = joined(arguments_.adapters.folders),
            .prompts = prompts_,
            .seq_len = arguments_.seq_len,
            .documents = store_->num_documents(),
            .text_bytes = store_->text_bytes()};
  }

 private:
  void require_context(const OpenedModel& opened) const {
    const int64_t longest = opened.model->config().max_position_embeddings;
    require(arguments_.seq_len <= longest,
            "--seq-len ",
            arguments_.seq_len,
            " exceeds the model's max_position_embeddings ",
            longest,
            " (",
            opened.source,
            ")");
  }

  void choose_prompts(const OpenedModel& opened) {
    const int64_t longest =
        opened.model->config().max_position_embeddings - arguments_.answers.max_tokens;
    auto chosen = spread_prompts(*store_, *tokenizer_, arguments_.samples, longest);
    require(chosen.conversations > 0,
            "--samples: --data holds no conversation with an answer; expected messages, or another "
            "format of conversations (docs/data.md has an example of each)");
    require(!chosen.prompts.empty(),
            "--samples: no conversation of --data leaves room for --max-tokens ",
            arguments_.answers.max_tokens,
            " behind its prompt: ",
            opened.source,
            " reads at most ",
            longest + arguments_.answers.max_tokens,
            " tokens (max_position_embeddings)");
    if (chosen.too_long > 0) {
      print_notes({text("--samples: left out ",
                        chosen.too_long,
                        " of ",
                        chosen.conversations,
                        " conversations, whose prompts have more than ",
                        longest,
                        " tokens, so that --max-tokens would exceed what the model reads")});
    }
    if (static_cast<int64_t>(chosen.prompts.size()) < arguments_.samples) {
      print_notes({text("--samples: there are ", chosen.prompts.size(), " to ask for, all taken")});
    }
    prompts_ = std::move(chosen.prompts);
  }

  // As many answers at once as have no more tokens than the passes that judge.
  GenerateOptions answer_options() const {
    std::size_t longest = 0;
    for (const auto& prompt : prompts_) {
      longest = std::max(longest, prompt.ids.size());
    }
    auto options = arguments_.answers;
    const int64_t tokens = static_cast<int64_t>(longest) + options.max_tokens;
    options.batch_size = std::max<int64_t>(1, arguments_.batch_size * arguments_.seq_len / tokens);
    return options;
  }

  const EvaluateArguments& arguments_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<DocumentStore> store_;
  std::vector<AnswerPrompt> prompts_;
};

EvaluationReport reported(const EvaluateArguments& arguments) {
  std::optional<OpenedModel> opened = open_model(arguments.model,
                                                 arguments.dtype,
                                                 /*trainable=*/false,
                                                 arguments.adapters,
                                                 arguments.place.find_device(),
                                                 arguments.place.room);
  print_notes(opened->notes);
  const bool has_adapters = opened->model->parameters().lora().has_value();
  const auto against = arguments.against.empty() ? has_adapters ? kBase : kNone : arguments.against;
  require(against != kBase || has_adapters,
          opened->source,
          ": has no adapters that --against base could leave out; name the model to compare with "
          "(--against MODEL)");
  if (against != kBase && against != kNone) {
    architecture_of(against);  // whether there is one, before the first is judged
  }
  const Judge judge(arguments, *opened);
  auto report = judge.report();
  report.model = judge.judge(*opened, opened->source);
  if (against == kBase) {
    const WithoutAdapters base(*opened->model);
    report.base = judge.judge(*opened, opened->source + " without adapters");
  } else if (against != kNone) {
    opened.reset();  // two models need not fit the memory
    report.base = judge.judge_other(against);
  }
  return report;
}

int run_evaluate(const EvaluateArguments& arguments) {
  const auto report = reported(arguments);
  std::cout << (arguments.json ? json_text(json_of(report)) + "\n" : text_of(report)) << std::flush;
  return 0;
}

void add_samples(CLI::App& command, EvaluateArguments& arguments) {
  command
      .add_option("--samples",
                  arguments.samples,
                  "let the models answer this many of the conversations, evenly spread, and print "
                  "what they say beside the answer that is there")
      ->check(whole_number(1, int64_t{1} << 30));
  command
      .add_option(
          "--max-tokens", arguments.answers.max_tokens, "--samples: cut an answer after this many")
      ->check(whole_number(1, int64_t{1} << 30))
      ->capture_default_str();
  arguments.answers.sampling.temperature = 0;
  add_sampling(command, arguments.answers.sampling, arguments.answers.seed);
}

}  // namespace

Command evaluate_command(CLI::App& app) {
  auto arguments = std::make_shared<EvaluateArguments>();
  auto* command = app.add_subcommand(
      "evaluate",
      "Loss, perplexity and bits per byte of a model on texts and conversations, also by position "
      "and role, and beside those of its base");
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
  command
      ->add_option("--against",
                   arguments->against,
                   "also judge another model, as the base of this one, and print both: a MODEL; "
                   "`base`, this one without its adapters, the default where it has some; or "
                   "`none`")
      ->check(not_empty());
  add_samples(*command, *arguments);
  command->add_option("--seq-len", arguments->seq_len, "longest context a token is judged with")
      ->check(whole_number(2, int64_t{1} << 30))
      ->capture_default_str();
  command->add_option("--batch-size", arguments->batch_size, "sequences computed together")
      ->check(whole_number(1, int64_t{1} << 20))
      ->capture_default_str();
  add_dtype(*command, arguments->dtype);
  add_device(*command, arguments->place);
  command->add_flag("--json", arguments->json, "one JSON object");
  command->footer(
      "Example:\n  braid evaluate runs/quickstart --data corpus/fortunes --document-separator "
      "'%' --seq-len 512\n"
      "  braid evaluate flash --adapter adapter --data held-out.jsonl --samples 5\n"
      "  braid evaluate runs/tuned --against flash --data held-out.jsonl\n"
      "  braid evaluate runs/recall --task '{task: recall, distances: [32, 200]}'\n\n"
      "A position counts the tokens of its context before it; perplexity = exp(loss).");
  require_one_of(*command, {"--data", "--task"});
  return [arguments] { return run_evaluate(*arguments); };
}

}  // namespace braid
