#include "commands/command_options.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <limits>
#include <map>
#include <system_error>

#include "core/error.h"
#include "data/prepare.h"
#include "formats/model_tokenizer.h"
#include "run/run_folder.h"

namespace braid {
namespace {

/// What --set may name in commands that take no run's configuration.
struct DataAlone {
  DataSection data;

  template <class Visitor>
  static void fields(Visitor& v) {
    v("data", &DataAlone::data, "how texts and samples are read");
  }
};

// All of the text as a number; the texts of LibTorch's and CLI11's readers differ from it in what
// they pass over in silence.
template <class Number>
bool parses(const std::string& given, Number& number) {
  const auto* end = given.data() + given.size();
  const auto [stopped, error] = std::from_chars(given.data(), end, number);
  return error == std::errc() && stopped == end;
}

template <class Number>
CLI::Validator number_in(const char* kind, Number low, Number high, bool or_zero = false) {
  const auto range = text(low, " to ", high);
  return CLI::Validator(
      [=](const std::string& given) {
        Number number{};
        const bool good = parses(given, number) &&
                          ((number >= low && number <= high) || (or_zero && number == 0));
        return good ? std::string()
                    : text("must be ",
                           or_zero ? "0 or " : "",
                           kind,
                           " from ",
                           range,
                           ", not '",
                           given,
                           "'");
      },
      range);
}

// What CLI11 says of a value that is missing, or that is there twice.
std::string of_count(const CLI::ArgumentMismatch& error) {
  const std::string said = error.what();
  const auto option = said.substr(0, said.find(':'));
  return said.find("missing") != std::string::npos
             ? option + ": needs a value behind it; `--help` lists the options"
             : option + ": is given more than once, but takes one value";
}

}  // namespace

CLI::Validator whole_number(int64_t low, int64_t high) {
  return number_in("a whole number", low, high);
}

CLI::Validator any_seed() {
  return number_in("a whole number", uint64_t{0}, std::numeric_limits<uint64_t>::max());
}

CLI::Validator real_number(double low, double high, bool or_zero) {
  return number_in("a number", low, high, or_zero);
}

CLI::Validator one_line() {
  return CLI::Validator(
      [](const std::string& given) {
        return given.find_first_of("\n\r") == std::string::npos
                   ? std::string()
                   : std::string("must be one line, but holds a line break");
      },
      "");
}

CLI::Validator not_empty() {
  return CLI::Validator(
      [](const std::string& given) {
        return given.empty() ? std::string("is empty") : std::string();
      },
      "");
}

std::string message_of_wrong_line(const CLI::App& app, const CLI::Error& error) {
  std::string message = error.what();
  if (const auto* mismatch = dynamic_cast<const CLI::ArgumentMismatch*>(&error)) {
    message = of_count(*mismatch);
  } else if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    std::string unknown;
    for (const auto& argument : app.remaining(/*recurse=*/true)) {
      unknown += (unknown.empty() ? "" : " ") + argument;
    }
    message = "unknown here: " + unknown;
  }
  const auto used = app.get_subcommands();
  return text("braid: ",
              message,
              "\nRun `braid ",
              used.empty() ? "" : used.front()->get_name() + " ",
              "--help` for what there is.\n");
}

void add_model(CLI::App& command, std::string& path) {
  command.add_option("model", path, "a run, a checkpoint, or a folder with config.json")
      ->required()
      ->check(not_empty());
}

RunConfig RunConfigOptions::in_its_own_folder(RunConfig loaded) const {
  namespace fs = std::filesystem;
  const fs::path file(config);
  const bool says_where = std::ranges::any_of(overrides, [](const std::string& assignment) {
    return assignment.starts_with("run.name=") || assignment.starts_with("run.output_dir=");
  });
  if (file.filename() != kConfigFile || says_where || !overlays.empty()) {
    return loaded;
  }
  const auto folder = fs::absolute(file).lexically_normal().parent_path();
  std::error_code absent;
  if (RunPaths{folder}.has_progress() && !fs::equivalent(folder, loaded.run_dir(), absent)) {
    loaded.run.name = folder.filename().string();
    loaded.run.output_dir = folder.parent_path().string();
  }
  return loaded;
}

void add_adapters_option(CLI::App& command, AdapterFolders& adapters) {
  command
      .add_option("--adapter",
                  adapters.folders,
                  "LoRA adapters to add: a folder of PEFT's layout, or a run that trained some; "
                  "repeatable")
      ->allow_extra_args(false)
      ->check(not_empty());
  add_any_base(command, adapters);
}

void add_any_base(CLI::App& command, AdapterFolders& adapters) {
  command.add_flag("--any-base",
                   adapters.any_base,
                   "take adapters that were trained on a base in other files, too");
}

void add_tokenizer(CLI::App& command, std::string& name) {
  command.add_option("--tokenizer",
                     name,
                     "of a MODEL that comes without one: bytes, a tokenizer.json, a "
                     "braid_tokenizer.yaml, or a folder that "
                     "has one or is a run");
}

std::unique_ptr<Tokenizer> tokenizer_of(const OpenedModel& opened, const std::string& named) {
  require(!named.empty() || opened.tokenizer,
          opened.source,
          ": comes without a tokenizer, so it cannot read a text; name one with --tokenizer");
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = named.empty() ? make_tokenizer(*opened.tokenizer) : tokenizer_called(named);
  } catch (const ConfigError& error) {
    fail(opened.source, ": ", error.message());
  }
  require_vocabulary(opened, *tokenizer);
  return tokenizer;
}

void require_vocabulary(const OpenedModel& opened, const Tokenizer& tokenizer) {
  const int64_t ids = opened.model->config().vocab_size;
  require(tokenizer.vocab_size() <= ids,
          opened.source,
          ": its vocabulary has ",
          ids,
          " ids, the tokenizer '",
          tokenizer.name(),
          "' has ",
          tokenizer.vocab_size(),
          "; choose the one that it was trained with (--tokenizer)");
}

std::unique_ptr<Tokenizer> tokenizer_called(const std::string& name) {
  try {
    return make_tokenizer(tokenizer_named(name));
  } catch (const ConfigError& error) {
    fail("--tokenizer ", name, ": ", error.message());
  }
}

DataSection TextOptions::section() const {
  for (const std::string& assignment : overrides) {
    require(assignment.starts_with("data.") && assignment.find('=') != std::string::npos,
            "--set ",
            assignment,
            ": expected data.KEY=VALUE, such as data.format=messages");
  }
  auto section = config_of_overrides<DataAlone>(overrides).data;
  if (!document_separator.empty()) {
    section.document_separator = document_separator;
  }
  if (text_key != "text") {
    section.text_key = text_key;
  }
  if (on_bad_sample == "skip") {
    section.on_bad_sample = OnBadLine::kSkip;
  }
  return section;
}

TextSource TextOptions::source(const std::vector<std::string>& paths) const {
  auto source = text_source_of(section(), /*longest=*/0);
  source.paths.assign(paths.begin(), paths.end());
  return source;
}

void add_text_options(CLI::App& command, TextOptions& options) {
  command
      .add_option("--document-separator",
                  options.document_separator,
                  "a line of exactly this separates documents; empty = one per file")
      ->check(one_line());
  command.add_option("--text-key", options.text_key, "JSONL: the key that holds a line's document")
      ->capture_default_str();
  command
      .add_option("--on-bad-sample",
                  options.on_bad_sample,
                  "JSONL: a line without a document is an error, or skipped and counted")
      ->check(CLI::IsMember({"error", "skip"}))
      ->capture_default_str();
  command
      .add_option("--set",
                  options.overrides,
                  "another key of the section data, such as data.format=messages; repeatable "
                  "(`braid train --help-config` lists them)")
      ->allow_extra_args(false);
}

void require_one_of(CLI::App& command, const std::vector<std::string>& options) {
  command.parse_complete_callback([&command, options] {
    const bool any = std::ranges::any_of(
        options, [&](const std::string& name) { return command.count(name) > 0; });
    if (!any) {
      throw CLI::RequiredError(joined(options, " or "));
    }
  });
}

CLI::Option* add_task(CLI::App& command, std::string& task) {
  return command
      .add_option("--task",
                  task,
                  "a synthetic task as data.train takes one, such as '{task: recall, distances: "
                  "[64, 200]}', or its name alone (docs/data.md, Synthetic tasks)")
      ->check(not_empty());
}

TaskOptions task_of(const std::string& task) {
  const bool is_name = task.find_first_of(":{") == std::string::npos;
  return parse_task(is_name ? "{task: " + task + "}" : task, "--task").options;
}

void add_sampling(CLI::App& command, Sampling& sampling, uint64_t& seed) {
  command.add_option("--temperature", sampling.temperature, "0 = always the most probable token")
      ->check(real_number(1e-6, 100, /*or_zero=*/true))
      ->capture_default_str();
  command.add_option("--top-k", sampling.top_k, "only the k most probable tokens; 0 = all")
      ->check(whole_number(0, int64_t{1} << 30))
      ->capture_default_str();
  command
      .add_option("--top-p",
                  sampling.top_p,
                  "then only the fewest most probable tokens that reach this probability")
      ->check(real_number(0, 1))
      ->capture_default_str();
  command.add_option("--seed", seed, "of the draws")->check(any_seed())->capture_default_str();
}

void print_notes(const std::vector<std::string>& notes) {
  for (const auto& note : notes) {
    std::cerr << "note: " << note << std::endl;
  }
}

CLI::Option* add_run_config(CLI::App& command, RunConfigOptions& options) {
  auto* config =
      command.add_option("config", options.config, "the run's YAML file")->check(not_empty());
  command.add_option("overlays",
                     options.overlays,
                     "YAML files whose keys win over the run's, such as configs/ablations/*.yaml");
  command
      .add_option("--set",
                  options.overrides,
                  "a.b=c, one key, wins over the files; repeatable. c is YAML: text "
                  "with ': ' in it needs quotes, text that begins with %, @ or another sign "
                  "does not")
      ->allow_extra_args(false);
  return config;
}

void add_dtype(CLI::App& command, at::ScalarType& dtype) {
  std::map<std::string, at::ScalarType> types;
  std::string default_name;
  for (const auto& [name, value] : enum_names(ComputeType{})) {
    types[name] = scalar_type(value);
    default_name = scalar_type(value) == dtype ? name : default_name;
  }
  command
      .add_option_function<std::string>(
          "--dtype",
          [types, &dtype](const std::string& name) { dtype = types.at(name); },
          "of the computation")
      ->check(CLI::IsMember(types))
      ->default_str(default_name);
}

at::Device ModelPlace::find_device() const {
  require(device.kind != DeviceChoice::Kind::kCpu || !room.resident,
          "--resident-gb: is for a GPU, and --device is cpu, where experts in FP4 or FP8 stay in "
          "their files and take no memory; leave it out");
  require(room.resident || !room.pinned,
          "--pinned-gb: is for experts that --resident-gb leaves no room for on the GPU; give "
          "both, or leave both out");
  return device_of(device, "--device");
}

void add_device(CLI::App& command, ModelPlace& place) {
  const CLI::Validator spelling(
      [](const std::string& given) {
        return DeviceChoice::parse(given)
                   ? std::string()
                   : text("must be cpu, cuda, or cuda:N with the number of a device, not '",
                          given,
                          "'");
      },
      DeviceChoice::kConfigKind);
  command
      .add_option_function<std::string>(
          "--device",
          [&place](const std::string& given) { place.device = *DeviceChoice::parse(given); },
          "where the model is")
      ->check(spelling)
      ->default_str(place.device.spelled());
  const auto add_room = [&](const char* name, std::optional<double>& bytes, const char* help) {
    command
        .add_option_function<double>(
            name, [&bytes](double gigabytes) { bytes = gigabytes * kGigabyte; }, help)
        ->check(real_number(0, 1e6, /*or_zero=*/true));
  };
  add_room("--resident-gb",
           place.room.resident,
           "on a GPU: 10^9 bytes of experts in FP4 or FP8 that stay there; the others are copied "
           "to it when a pass comes to them; without it all stay");
  add_room("--pinned-gb",
           place.room.pinned,
           "of the experts that are copied, the 10^9 bytes in pinned memory; the others are read "
           "from their files; without it all are pinned");
}

}  // namespace braid
