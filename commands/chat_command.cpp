#include <csignal>
#include <iostream>
#include <map>
#include <memory>
#include <optional>

#include <unistd.h>

#include "commands/chat_printer.h"
#include "commands/command_options.h"
#include "commands/commands.h"
#include "commands/interrupt.h"
#include "core/error.h"
#include "core/file.h"
#include "core/interruption.h"
#include "formats/open_model.h"
#include "inference/chat_session.h"
#include "run/progress.h"

namespace braid {
namespace {

const std::map<std::string, Thinking> kThinkingModes = {
    {"auto", Thinking::kAuto}, {"on", Thinking::kOn}, {"off", Thinking::kOff}};

constexpr const char* kHelp =
    "/think on|off|auto   reason before answers; auto: once an earlier answer has reasoning\n"
    "/system TEXT         another system message; without TEXT none\n"
    "/result TEXT         what the next open call returned; the last one is answered\n"
    "/reset               a new conversation\n"
    "/help                this\n"
    "/quit                the end, as Ctrl-D\n"
    "A line that ends in \\ goes on in the next one. //TEXT says /TEXT. Ctrl-C ends an answer.\n";

struct ChatArguments {
  AdapterFolders adapters;
  ModelPlace place;
  std::string model, tokenizer, system, tools, thinking = "auto", effort, profile = "v4_0731";
  ChatSettings settings;
};

/// Lines from standard input, and what they lead to.
class Chat {
 public:
  Chat(ChatSession& session, bool asks)
      : session_(session), asks_(asks), printer_(is_smart_terminal(STDOUT_FILENO)) {}

  void run() {
    while (const auto line = next_line()) {
      try {
        if (!obey(*line)) {
          break;
        }
      } catch (const Error& error) {
        if (!asks_) {
          throw;
        }
        std::cerr << "braid: " << error.what() << std::endl;
      }
    }
  }

 private:
  // Joined with the next one where it ends in a backslash.
  std::optional<std::string> next_line() const {
    std::string whole, line;
    bool more = false;
    do {
      if (asks_) {
        std::cout << (more ? "  " : "> ") << std::flush;
      }
      if (!std::getline(std::cin, line)) {
        return more ? std::optional(whole) : std::nullopt;
      }
      more = line.ends_with('\\');
      whole += more ? line.substr(0, line.size() - 1) + "\n" : line;
    } while (more);
    return whole;
  }

  /// Whether the conversation goes on.
  bool obey(const std::string& line) {
    if (line.find_first_not_of(" \t\r\n") == std::string::npos) {
      return true;
    }
    if (!line.starts_with('/') || line.starts_with("//")) {
      session_.say(line.substr(line.starts_with('/') ? 1 : 0));
      answer();
      return true;
    }
    const auto space = line.find(' ');
    const auto name = line.substr(0, space);
    const auto rest = space == std::string::npos ? std::string() : line.substr(space + 1);
    if (name == "/quit") {
      return false;
    }
    if (name == "/think") {
      const auto mode = kThinkingModes.find(rest);
      require(mode != kThinkingModes.end(), "/think ", rest, ": expected on, off or auto");
      session_.settings().thinking = mode->second;
    } else if (name == "/system") {
      session_.set_system(rest);
    } else if (name == "/result") {
      session_.give_result(rest);
      if (session_.open_calls() == 0) {
        answer();
      }
    } else if (name == "/reset") {
      session_.reset();
    } else if (name == "/help") {
      std::cout << kHelp << std::flush;
    } else {
      fail(name, ": no such command; /help lists them, and //TEXT says what begins with /");
    }
    return true;
  }

  void answer() {
    std::optional<ChatReply> reply;
    {
      const InterruptGuard guard(nullptr);
      try {
        reply = session_.reply({.begin = [&](bool thinks) { printer_.begin(thinks); },
                                .token = [&](std::string_view bytes) { printer_.add(bytes); }});
        printer_.finish(reply->answer);
      } catch (const Interrupted&) {
        std::cerr << "note: stopped before the answer; what was said is taken back" << std::endl;
      } catch (...) {
        printer_.abandon();
        throw;
      }
    }
    const int signal = interruption();
    forget_interruption();
    if (signal != 0 && signal != SIGINT) {
      throw Interrupted(signal);
    }
    if (reply) {
      tell(*reply);
    }
  }

  void tell(const ChatReply& reply) {
    if (reply.given_up > 0 && !told_) {
      told_ = true;
      print_notes(
          {text("what the model reads of the conversation changed (earlier reasoning is left "
                "out, or a setting is another one): ",
                reply.given_up,
                " tokens were given up and read in their new form; from now on this is "
                "done without a note")});
    }
    if (reply.end == ChatEnd::kMaxTokens) {
      print_notes({text("the answer was cut after ", reply.tokens, " tokens (--max-tokens)")});
    } else if (reply.end == ChatEnd::kContextFull) {
      print_notes({"the answer was cut, for the model reads no more tokens; /reset begins anew"});
    } else if (reply.end == ChatEnd::kInterrupted) {
      print_notes({text("the answer was stopped after ", reply.tokens, " tokens")});
    }
  }

  ChatSession& session_;
  bool asks_;  // a person sits there
  ChatPrinter printer_;
  bool told_ = false;
};

int run_chat(const ChatArguments& arguments) {
  auto settings = arguments.settings;
  settings.thinking = kThinkingModes.at(arguments.thinking);
  settings.format.profile = chat_profile(arguments.profile);
  if (!arguments.effort.empty()) {
    settings.format.effort = reasoning_effort(arguments.effort);
  }
  std::optional<OrderedJson> tools;
  if (!arguments.tools.empty()) {
    try {
      tools = parse_ordered_json(read_file(arguments.tools));
    } catch (const Error& error) {
      fail(arguments.tools, ": ", error.what());
    }
  }
  const auto opened = open_model(arguments.model,
                                 at::kFloat,
                                 /*trainable=*/false,
                                 arguments.adapters,
                                 arguments.place.find_device(),
                                 arguments.place.room);
  print_notes(opened.notes);
  const auto tokenizer = tokenizer_of(opened, arguments.tokenizer);
  ChatSession session(*opened.model, *tokenizer, settings);
  session.set_system(arguments.system);
  if (tools) {
    session.set_tools(*tools);
  }
  const bool asks = isatty(STDIN_FILENO) == 1;
  if (asks) {
    std::cout << "/help lists the commands, Ctrl-D ends." << std::endl;
  }
  Chat(session, asks).run();
  return 0;
}

}  // namespace

Command chat_command(CLI::App& app) {
  auto arguments = std::make_shared<ChatArguments>();
  auto* command = app.add_subcommand("chat", "Talk with a model, on a terminal or through a pipe");
  add_model(*command, arguments->model);
  add_tokenizer(*command, arguments->tokenizer);
  add_adapters_option(*command, arguments->adapters);
  command->add_option("--system", arguments->system, "the system message");
  command->add_option("--tools", arguments->tools, "a JSON list of functions that it may call")
      ->check(not_empty());
  command
      ->add_option("--think",
                   arguments->thinking,
                   "reason before answers: on, off, or auto = once an earlier answer has reasoning")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  command
      ->add_option("--effort", arguments->effort, "of reasoning; without it nothing is asked for")
      ->check(CLI::IsMember({"low", "high", "max"}));
  command
      ->add_option("--profile", arguments->profile, "what the efforts mean: the release's prompts")
      ->check(CLI::IsMember({"v4_0731", "v4_preview"}))
      ->capture_default_str();
  command
      ->add_option("--max-tokens", arguments->settings.max_tokens, "cut an answer after this many")
      ->check(whole_number(1, int64_t{1} << 30))
      ->capture_default_str();
  add_device(*command, arguments->place);
  add_sampling(*command, arguments->settings.sampling, arguments->settings.seed);
  command->footer(
      text("Example:\n  braid chat runs/tuned --think on --temperature 0.7\n"
           "  echo 'What is a braid?' | braid chat runs/tuned\n\n"
           "Each line of standard input is a message, or a command:\n",
           kHelp));
  return [arguments] { return run_chat(*arguments); };
}

}  // namespace braid
