// `braid chat` through a pipe.
#include <csignal>

#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using testing::expect_error;
using testing::expect_mentions;
using testing::Program;

// The most probable token after another is never the end token for long.
const std::vector<std::string> kEndless = {
    "chat", "runs/run", "--max-tokens", "100000", "--think", "on", "--temperature", "0"};

class ChatCommand : public testing::CliTest {
 protected:
  testing::Outcome chat(const std::string& input, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"chat", "runs/run", "--max-tokens", "8"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return braid(arguments, {.input = input});
  }
};

TEST_F(ChatCommand, AnswersEachLineAndRepeatsItself) {
  train_run();
  const auto first = chat("hello\nand more\\\nof it\n");
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_FALSE(first.out.empty());
  EXPECT_EQ(chat("hello\n\nand more\\\nof it\n/quit\nnot read\n").out, first.out);
  EXPECT_NE(chat("hello\nand more\\\nof it\n", {"--seed", "1"}).out, first.out);
  const auto again = chat("hello\n/reset\nhello\n", {"--temperature", "0"});
  const auto half = again.out.size() / 2;
  EXPECT_EQ(again.out.substr(0, half), again.out.substr(half));
}

TEST_F(ChatCommand, ReasoningIsMarkedAndLeftOutOfTheHistory) {
  train_run();
  const auto outcome = chat("one\n/think on\ntwo\nthree\n/think off\nfour\n");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  int marks = 0;
  for (auto at = outcome.out.find("<think>"); at != std::string::npos;
       at = outcome.out.find("<think>", at + 1)) {
    ++marks;
  }
  EXPECT_EQ(marks, 2) << outcome.out;
  expect_mentions(outcome.err, {"earlier reasoning is left out", "given up", "--max-tokens"});
}

TEST_F(ChatCommand, WrongCommandsAndValuesAreNamed) {
  train_run();
  expect_error(chat("/thing\n"), {"/thing: no such command", "/help"});
  expect_error(chat("/think maybe\n"), {"/think maybe", "on, off or auto"});
  expect_error(chat("/result 3\n"), {"no call of the last answer"});
  EXPECT_EQ(chat("", {"--think", "maybe"}).status, 2);
  expect_error(chat("", {"--tools", "absent.json"}), {"absent.json"});
  write("tools.json", "{\"name\": ");
  expect_error(chat("", {"--tools", "tools.json"}), {"tools.json", "not valid JSON"});
  write("tools.json", "{}");
  expect_error(chat("", {"--tools", "tools.json"}), {"tools", "a list"});
  expect_mentions(chat("/help\n").out, {"/system TEXT", "/reset", "/quit"});
}

TEST_F(ChatCommand, AFullContextSaysWhatToDo) {
  const std::vector<std::string> short_context = {"--set", "model.max_position_embeddings=64"};
  train_run(short_context);
  const auto cut = chat("hello, and a few words that take room\n", {"--max-tokens", "1000"});
  expect_mentions(cut.err, {"reads no more tokens", "/reset"});
  expect_error(chat(text(std::string(80, 'x'), "\n")), {"at most 64", "/reset"});
}

TEST_F(ChatCommand, ControlCEndsTheAnswerAndNotTheProgram) {
  train_run();
  Program program(folder_, kEndless, {.input = "one\ntwo\n"});
  for (int answer = 1; answer <= 2; ++answer) {
    program.wait_for("<think>", answer);
    program.send(SIGINT);
  }
  const auto outcome = program.finish();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  expect_mentions(outcome.err, {"note: the answer was stopped after"});
}

TEST_F(ChatCommand, SigtermEndsTheProgram) {
  train_run();
  Program program(folder_, kEndless, {.input = "one\ntwo\n"});
  program.wait_for("<think>");
  program.send(SIGTERM);
  EXPECT_EQ(program.finish().status, 128 + SIGTERM);
}

}  // namespace
}  // namespace braid
