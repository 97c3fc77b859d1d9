#include <c10/util/Exception.h>

#include <iostream>

#include "core/version.h"
#include "train/commands.h"

namespace {

constexpr int kFailed = 1, kWrongCommandLine = 2;

int fail_with(const std::string& message) {
  std::cerr << "braid: " << message << std::endl;
  return kFailed;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Braid: training and fine-tuning of DeepSeek-V4 models", "braid");
  app.set_version_flag("--version", braid::version());
  app.require_subcommand(1);
  const std::vector<std::pair<std::string, braid::Command>> commands = {
      {"train", braid::train_command(app)},
      {"generate", braid::generate_command(app)},
      {"probe", braid::probe_command(app)},
  };
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongCommandLine;
  }
  try {
    for (const auto& [name, command] : commands) {
      if (app.got_subcommand(name)) {
        return command();
      }
    }
  } catch (const c10::Error& error) {
    return fail_with(error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return fail_with("out of memory; try a smaller train.micro_batch_size or data.seq_len");
  } catch (const std::exception& error) {
    return fail_with(error.what());
  }
  return kFailed;
}
