#include <algorithm>
#include <iostream>
#include <memory>

#include <unistd.h>

#include "commands/command_options.h"
#include "commands/commands.h"
#include "core/error.h"
#include "data/prepare.h"
#include "data/sample_survey.h"
#include "data/task_documents.h"
#include "formats/model_tokenizer.h"
#include "run/table.h"

namespace braid {
namespace {

struct RenderArguments {
  std::vector<std::string> files;
  std::string config, tokenizer, task;
  TextOptions texts;
  int64_t row = 1;
  bool ids = false, check = false, json = false;
};

struct RenderedData {
  TextSource source;
  std::unique_ptr<Tokenizer> tokenizer;
};

RenderedData data_of(const RenderArguments& arguments) {
  TokenizerConfig tokenizer;
  DataSection section;
  // Without a configuration nobody has said how long sequences are.
  bool has_length = !arguments.config.empty();
  if (has_length) {
    const auto loaded = load_config<RunConfig>(arguments.config, arguments.texts.overrides);
    tokenizer = loaded.value.tokenizer;
    section = loaded.value.data;
  } else {
    section = arguments.texts.section();
    for (const std::string& pair : arguments.texts.overrides) {
      has_length = has_length || pair.starts_with("data.seq_len=");
    }
  }
  if (!arguments.tokenizer.empty()) {
    tokenizer = tokenizer_named(arguments.tokenizer);
  }
  RenderedData result{text_source_of(section, has_length ? section.seq_len : 0),
                      make_tokenizer(tokenizer)};
  result.source.paths.assign(arguments.files.begin(), arguments.files.end());
  return result;
}

/// How the stretches of a sample look.
class StretchMarks {
 public:
  explicit StretchMarks(bool on_terminal) : on_terminal_(on_terminal) {}

  std::string marked(const std::string& stretch, float weight) const {
    if (weight == 0) {
      return stretch;
    }
    const std::string times = weight == 1 ? "" : text("x", weight);
    return on_terminal_ ? "\x1b[32m" + stretch + "\x1b[0m" +
                              (times.empty() ? "" : "\x1b[2m" + times + "\x1b[0m")
                        : "[[" + stretch + "]]" + times;
  }

 private:
  bool on_terminal_;
};

/// The weight of each id and of the end token; 0 where it is no target.
std::vector<float> weights_of(const Document& document) {
  std::vector<float> weights(document.ids.size() + 1, 0);
  for (const auto& [begin, end, weight] : document.targets) {
    std::fill(weights.begin() + begin, weights.begin() + end, weight);
  }
  return weights;
}

/// The ids of the whole document as the loader gives it: with the begin token, and with the end
/// token where that is a target.
struct WholeDocument {
  std::vector<int64_t> ids;
  std::vector<float> weights;
};

WholeDocument whole(const Document& document, const Tokenizer& tokenizer) {
  WholeDocument result{document.ids, weights_of(document)};
  if (result.weights.back() > 0) {
    result.ids.push_back(tokenizer.end_id());
  }
  result.weights.resize(result.ids.size());
  result.ids.insert(result.ids.begin(), tokenizer.begin_id());
  result.weights.insert(result.weights.begin(), 0);
  return result;
}

std::string rendered(const WholeDocument& document,
                     const Tokenizer& tokenizer,
                     const StretchMarks& marks) {
  std::string result;
  for (std::size_t begin = 0, end = 0; begin < document.ids.size(); begin = end) {
    while (end < document.ids.size() && document.weights[end] == document.weights[begin]) {
      ++end;
    }
    const std::vector<int64_t> ids(document.ids.begin() + static_cast<std::ptrdiff_t>(begin),
                                   document.ids.begin() + static_cast<std::ptrdiff_t>(end));
    result += marks.marked(tokenizer.decode(ids, SpecialTokens::kSpell), document.weights[begin]);
  }
  return result + "\n";
}

std::string id_table(const WholeDocument& document, const Tokenizer& tokenizer) {
  TextTable table({">position", ">id", ">weight", "token"});
  for (std::size_t i = 0; i < document.ids.size(); ++i) {
    const auto token = nlohmann::json(tokenizer.decode({document.ids[i]}, SpecialTokens::kSpell));
    table.add({std::to_string(i),
               std::to_string(document.ids[i]),
               document.weights[i] == 0 ? "" : text(document.weights[i]),
               token.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)});
  }
  return table.text();
}

nlohmann::ordered_json document_json(const WholeDocument& document, const Tokenizer& tokenizer) {
  return {{"text", tokenizer.decode(document.ids, SpecialTokens::kSpell)},
          {"ids", document.ids},
          {"weights", document.weights}};
}

// As training does it, and says so.
void fit(std::vector<Document>& documents, const TextSource& source) {
  int64_t inputs = 0;
  for (const Document& document : documents) {
    inputs = std::max(inputs, num_inputs(document));
  }
  if (source.longest == 0 || inputs <= source.longest) {
    return;
  }
  const bool cuts = source.samples.too_long == TooLong::kCut;
  print_notes({text("it has ",
                    inputs,
                    " tokens, more than the ",
                    source.longest,
                    " of a sequence (data.seq_len): data.too_long ",
                    cuts ? "cuts it" : "keeps it out")});
  for (Document& document : documents) {
    if (cuts) {
      cut_document(document, source.longest);
    }
  }
}

int show_row(const RenderArguments& arguments, const RenderedData& data) {
  require(data.source.paths.size() == 1,
          "--row shows a row of one file, and ",
          data.source.paths.size(),
          " were named");
  const auto& file = data.source.paths.front();
  const auto found = format_of(file, data.source.samples.format, data.source.text_key);
  const SampleParser parser(
      found.format, data.source.samples, *data.tokenizer, data.source.text_key);
  auto documents = documents_of_row(file, arguments.row, parser);
  fit(documents, data.source);
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const auto document = whole(documents[i], *data.tokenizer);
    const auto trained = std::count_if(
        document.weights.begin(), document.weights.end(), [](float weight) { return weight > 0; });
    const char* which = documents.size() == 1 ? "" : i == 0 ? ", chosen" : ", rejected";
    if (arguments.json) {
      all.push_back(document_json(document, *data.tokenizer));
      continue;
    }
    std::cerr << file.string() << ":" << arguments.row << ": " << enum_name(found.format) << which
              << ", " << document.ids.size() << " tokens, " << trained << " of them trained"
              << std::endl;
    std::cout << (arguments.ids
                      ? id_table(document, *data.tokenizer)
                      : rendered(document, *data.tokenizer, StretchMarks(isatty(1) != 0)));
  }
  if (arguments.json) {
    std::cout << json_text({{"format", enum_name(found.format)}, {"documents", all}}) << "\n";
  }
  return 0;
}

// The documents of both sides count from 1.
int show_task(const RenderArguments& arguments) {
  const auto tokenizer = data_of(arguments).tokenizer;
  const TaskOptions options = task_of(arguments.task);
  const TaskDocuments documents(options, TaskSide::kTraining, *tokenizer);
  const int64_t number = arguments.row - 1;
  const auto document = whole(documents.document(number), *tokenizer);
  const auto answers = documents.answers(number);
  if (arguments.json) {
    auto list = nlohmann::ordered_json::array();
    for (const auto& [begin, end, group] : answers) {
      list.push_back({{"begin", begin}, {"end", end}, {"group", documents.answer_groups()[group]}});
    }
    auto object = document_json(document, *tokenizer);
    object["answers"] = list;
    std::cout << json_text({{"task", documents.name()}, {"documents", {object}}}) << "\n";
    return 0;
  }
  std::cerr << documents.name() << ", row " << arguments.row << ": " << document.ids.size()
            << " tokens, " << answers.size() << (answers.size() == 1 ? " answer" : " answers")
            << std::endl;
  std::cout << (arguments.ids ? id_table(document, *tokenizer)
                              : rendered(document, *tokenizer, StretchMarks(isatty(1) != 0)));
  return 0;
}

int check_all(const RenderArguments& arguments, const RenderedData& data) {
  const auto formats = formats_of(data.source);
  print_notes(formats.lines);
  print_notes(formats.notes);
  const auto survey = survey_samples(data.source, *data.tokenizer);
  auto problems = nlohmann::ordered_json::array();
  int64_t count = 0;
  for (const auto& [kind, problem] : survey.problems) {
    problems.push_back({{"problem", kind}, {"count", problem.count}, {"first", problem.first}});
    count += problem.count;
  }
  nlohmann::ordered_json object = {{"samples", survey.samples},
                                   {"tokens", survey.tokens},
                                   {"trained_tokens", survey.trained_tokens},
                                   {"trained_weight", survey.trained_weight},
                                   {"length_median", survey.length_at(0.5)},
                                   {"length_95_percent", survey.length_at(0.95)},
                                   {"length_longest", survey.length_at(1)}};
  if (data.source.longest > 0) {
    const char* fate = data.source.samples.too_long == TooLong::kCut ? "cut" : "left out";
    object["sequence_length"] = data.source.longest;
    object["too_long"] = survey.too_long;
    object["too_long_percent"] = 100.0 * static_cast<double>(survey.too_long) /
                                 static_cast<double>(std::max<int64_t>(survey.samples, 1));
    object["too_long_are"] = fate;
  }
  object["wrong"] = count;
  if (count > 0) {
    object["problems"] = problems;
  }
  std::cout << (arguments.json ? json_text(object) + "\n" : readable(object)) << std::flush;
  return count > 0 ? 1 : 0;
}

}  // namespace

Command render_command(CLI::App& app) {
  auto arguments = std::make_shared<RenderArguments>();
  auto* command = app.add_subcommand(
      "render", "What a model sees of fine-tuning data, and what it is trained on");
  auto* files =
      command
          ->add_option(
              "FILE", arguments->files, "JSONL or a JSON array; --check also takes folders")
          ->check(not_empty());
  add_task(*command, arguments->task)->excludes(files);
  command->add_option("--config",
                      arguments->config,
                      "a run's configuration: its sections data and tokenizer count");
  add_tokenizer(*command, arguments->tokenizer);
  add_text_options(*command, arguments->texts);
  command->add_option("--row", arguments->row, "which line of JSONL, or item of an array")
      ->check(whole_number(1, int64_t{1} << 40))
      ->capture_default_str();
  command->add_flag("--ids", arguments->ids, "a line for each token");
  command->add_flag("--check",
                    arguments->check,
                    "read everything; lengths, trained tokens, and what is wrong, by kind; status "
                    "1 if anything is");
  command->add_flag("--json", arguments->json, "one JSON object");
  command->footer(
      "Examples:\n  braid render chat.jsonl --row 3\n"
      "  braid render chat.jsonl --check --config run.yaml\n"
      "  braid render chat.jsonl --tokenizer DeepSeek-V4-Flash --set data.thinking=on\n"
      "  braid render --task '{task: recall, distances: [32, 200]}' --row 7\n\n"
      "Trained tokens are green on a terminal and within [[ ]] elsewhere, with xW behind them "
      "where "
      "they\nweigh W and not 1.");
  require_one_of(*command, {"FILE", "--task"});
  return [arguments] {
    if (!arguments->task.empty()) {
      require(!arguments->check, "--check reads files; a task has none: leave --check out");
      return show_task(*arguments);
    }
    const auto data = data_of(*arguments);
    return arguments->check ? check_all(*arguments, data) : show_row(*arguments, data);
  };
}

}  // namespace braid
