#include "commands/command_options.h"

#include <iostream>
#include <map>

#include "core/error.h"
#include "formats/model_tokenizer.h"

namespace braid {
namespace {

template <class Check>
CLI::Validator number_that(const Check& is_good, const std::string& otherwise) {
  return CLI::Validator(
      [is_good, otherwise](const std::string& given) {
        double number = 0;
        const bool good = CLI::detail::lexical_cast(given, number) && is_good(number);
        return good ? std::string() : "must be " + otherwise + ", not " + given;
      },
      "POSITIVE");
}

}  // namespace

CLI::Validator at_least_one() {
  return number_that([](double number) { return number >= 1; }, "at least 1");
}

CLI::Validator above_zero() {
  return number_that([](double number) { return number > 0; }, "above 0");
}

void add_model(CLI::App& command, std::string& path) {
  command.add_option("model", path, "a run, a checkpoint, or a folder with config.json")
      ->required();
}

void add_tokenizer(CLI::App& command, std::string& name) {
  command.add_option("--tokenizer",
                     name,
                     "of a MODEL that comes without one: bytes, a braid_tokenizer.yaml, or a run");
}

std::unique_ptr<Tokenizer> tokenizer_of(const OpenedModel& opened, const std::string& named) {
  require(!named.empty() || opened.tokenizer,
          opened.source,
          ": comes without a tokenizer, so it cannot read a text; name one with --tokenizer");
  auto config = opened.tokenizer;
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    config = named.empty() ? config : tokenizer_named(named);
    tokenizer = make_tokenizer(*config);
  } catch (const ConfigError& error) {
    fail(named.empty() ? opened.source : "--tokenizer " + named, ": ", error.message());
  }
  const int64_t ids = opened.model->config().vocab_size;
  require(tokenizer->vocab_size() <= ids,
          opened.source,
          ": its vocabulary has ",
          ids,
          " ids, the tokenizer '",
          tokenizer->name(),
          "' has ",
          tokenizer->vocab_size(),
          "; choose the one that it was trained with (--tokenizer)");
  return tokenizer;
}

void print_notes(const std::vector<std::string>& notes) {
  for (const auto& note : notes) {
    std::cerr << "note: " << note << std::endl;
  }
}

CLI::Option* add_run_config(CLI::App& command, RunConfigOptions& options) {
  auto* config = command.add_option("config", options.config, "the run's YAML file");
  command.add_option("overlays",
                     options.overlays,
                     "YAML files whose keys win over the run's, such as configs/ablations/*.yaml");
  command.add_option("--set", options.overrides, "a.b=value, wins over the files; repeatable")
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

}  // namespace braid
