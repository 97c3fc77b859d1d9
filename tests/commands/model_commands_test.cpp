// generate, evaluate and probe on a real run and on a reference model.
#include <cstdlib>
#include <sstream>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "checkpoint/safetensors.h"
#include "data/token_store.h"
#include "formats/open_model.h"
#include "inference/evaluate.h"
#include "inference/probe.h"
#include "tests/commands/cli_test.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using ModelCommands = testing::CliTest;

TEST_F(ModelCommands, GenerateContinuesThePromptAndRepeatsItself) {
  train_run();
  const std::vector<std::string> command = {
      "generate", "runs/run", "--prompt", "the quick", "--max-tokens", "20"};
  const auto first = braid(command);
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_TRUE(first.out.starts_with("the quick")) << first.out;
  EXPECT_GT(first.out.size(), std::string("the quick\n").size());
  EXPECT_EQ(braid(command).out, first.out);

  auto of_checkpoint = command;
  of_checkpoint[1] = "runs/run/checkpoints/step-00000006";
  EXPECT_EQ(braid(of_checkpoint).out, first.out);
}

TEST_F(ModelCommands, AFolderWithoutAModelIsAnError) {
  for (std::vector<std::string> command :
       {std::vector<std::string>{"generate"},
        std::vector<std::string>{"evaluate", "--data=run.yaml"}}) {
    command.insert(command.begin() + 1, "absent");
    testing::expect_error(braid(command), {"absent", "no such folder"});
    command[1] = ".";
    testing::expect_error(braid(command), {".", "config.json", "checkpoints"});
    command[1] = text(BRAID_TEST_DATA, "/golden/d_mixed");
    testing::expect_error(braid(command), {"d_mixed", "without a tokenizer"});
  }
}

TEST_F(ModelCommands, GenerateEndsBeforeAStopTextAndTellsWhy) {
  train_run();
  const auto generated = [&](const std::vector<std::string>& more) {
    std::vector<std::string> command = {
        "generate", "runs/run", "--prompt", "the", "--max-tokens", "20", "--json"};
    command.insert(command.end(), more.begin(), more.end());
    const auto outcome = braid(command);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out);
  };
  const auto whole = generated({"--temperature", "0"});
  EXPECT_EQ(whole.at("end"), "max_tokens");
  EXPECT_EQ(whole.at("tokens"), 20);
  const auto text = whole.at("text").get<std::string>();
  // A model this small says anything, also bytes that are no characters; two that are one each.
  std::size_t at = 1;
  while (at + 2 < text.size() && (text[at] < ' ' || text[at + 1] < ' ')) {
    ++at;
  }
  const std::string stop = text.substr(at, 2);
  const auto stopped = generated({"--temperature", "0", "--stop", "absent", "--stop", stop});
  EXPECT_EQ(stopped.at("end"), "stop_text");
  EXPECT_EQ(stopped.at("text"), text.substr(0, text.find(stop)));
  EXPECT_LT(stopped.at("tokens"), 20);
}

TEST_F(ModelCommands, GenerateContinuesManyPromptsAsItDoesOne) {
  train_run();
  write("prompts.jsonl", "{\"prompt\": \"quick\"}\n{\"prompt\": \"\"}\n");
  const std::vector<std::string> command = {"generate",
                                            "runs/run",
                                            "--prompt",
                                            "the",
                                            "--prompts-file",
                                            "prompts.jsonl",
                                            "--max-tokens",
                                            "12",
                                            "--top-k",
                                            "50",
                                            "--num-samples",
                                            "2"};
  auto as_json = command;
  as_json.push_back("--json");
  const auto outcome = braid(as_json);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  std::vector<nlohmann::json> samples;
  std::istringstream lines(outcome.out);
  for (std::string line; std::getline(lines, line);) {
    samples.push_back(nlohmann::json::parse(line));
  }
  ASSERT_EQ(samples.size(), 6u);
  const std::vector<std::string> prompts = {"the", "quick", ""};
  for (std::size_t i = 0; i < samples.size(); ++i) {
    EXPECT_EQ(samples[i].at("prompt"), prompts[i / 2]);
    EXPECT_EQ(samples[i].at("prompt_index"), i / 2);
    EXPECT_EQ(samples[i].at("sample_index"), i % 2);
  }
  const auto in_words = braid(command).out;
  EXPECT_NE(in_words.find("==> prompt 2, sample 1 ("), std::string::npos) << in_words;

  const auto first =
      braid({"generate", "runs/run", "--prompt", "the", "--max-tokens", "12", "--top-k", "50"});
  EXPECT_EQ(first.out, "the" + samples[0].at("text").get<std::string>() + "\n");
}

TEST_F(ModelCommands, GenerateNamesWhatIsWrongWithItsPrompts) {
  train_run();
  write("empty.txt", "");
  const auto with_file = [&](const std::string& file) {
    return braid({"generate", "runs/run", "--prompts-file", file});
  };
  testing::expect_error(with_file("absent.txt"), {"absent.txt", "No such file"});
  testing::expect_error(with_file("empty.txt"), {"empty.txt", "is empty"});
  testing::expect_error(with_file(write("bad.jsonl", "{}\n").string()), {"bad.jsonl:1", "prompt"});
  testing::expect_error(braid({"generate", "runs/run", "--prompt", "x", "--max-tokens", "2000000"}),
                        {"prompt 0", "max_position_embeddings"});
}

TEST_F(ModelCommands, EvaluateGivesWhatTheLibraryComputesAndLeavesNothingBehind) {
  train_run();
  const auto temporary = folder_ / "temporary";
  std::filesystem::create_directory(temporary);
  setenv("TMPDIR", temporary.c_str(), 1);
  const std::vector<std::string> command = {"evaluate",
                                            "runs/run",
                                            "--data",
                                            "corpus.txt",
                                            "--document-separator",
                                            "%",
                                            "--seq-len",
                                            "32",
                                            "--dtype",
                                            "float64"};
  auto as_json = command;
  as_json.push_back("--json");
  const auto outcome = braid(as_json);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  const auto got = nlohmann::json::parse(outcome.out);

  at::set_num_threads(1);
  const auto opened = open_model(config("run").run_dir(), at::kDouble);
  Corpus corpus;
  corpus.training = {{.paths = {corpus_}, .document_separator = "%"}};
  build_token_stores(corpus, tokenizer_, files());
  const TokenStore store(files().training[0]);
  const auto want = evaluate(*opened.model, store, 32, 4);
  EXPECT_EQ(got.at("loss"), want.loss);
  EXPECT_EQ(got.at("bits_per_byte"), want.bits_per_byte);
  EXPECT_EQ(got.at("tokens"), want.tokens);
  EXPECT_EQ(got.at("documents"), store.num_documents());
  EXPECT_EQ(got.at("positions").size(), 2u);
  EXPECT_EQ(got.at("positions")[1].at("loss"), want.positions[1].loss);

  testing::expect_mentions(braid(command).out, {"bits per byte", "perplexity", "positions"});
  EXPECT_TRUE(std::filesystem::is_empty(temporary));
  testing::expect_error(braid({"evaluate", "runs/run", "--data", "absent.txt"}),
                        {"absent.txt", "no such file"});
  testing::expect_error(
      braid({"evaluate", "runs/run", "--data", write("empty.txt", " \n").string()}),
      {"empty.txt", "empty"});
  testing::expect_error(
      braid({"evaluate", "runs/run", "--data", "corpus.txt", "--seq-len", "2000000"}),
      {"--seq-len", "max_position_embeddings"});
  EXPECT_TRUE(std::filesystem::is_empty(temporary));
  unsetenv("TMPDIR");
}

TEST_F(ModelCommands, ProbeWritesWhatTheLibraryComputes) {
  const std::string golden = text(BRAID_TEST_DATA, "/golden/d_mixed");
  const auto outcome = braid({"probe",
                              golden,
                              "--inputs",
                              golden + "/inputs.safetensors",
                              "--outputs",
                              "outputs.safetensors",
                              "--dtype",
                              "float64",
                              "--gradients",
                              "--streams"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;

  at::set_num_threads(1);
  const auto opened = open_model(golden, at::kDouble);
  const auto ids = SafetensorsFile(golden + "/inputs.safetensors").tensor("input_ids");
  const auto expected = probe(*opened.model, ids, {}, {.gradients = true, .streams = true});
  const SafetensorsFile outputs(folder_ / "outputs.safetensors");
  EXPECT_EQ(outputs.names().size(), expected.size());
  for (const auto& [name, value] : expected) {
    testing::expect_bitwise_equal(name, outputs.tensor(name), value);
  }
}

TEST_F(ModelCommands, ProbeNamesWhatIsWrongWithItsInputs) {
  const std::string golden = text(BRAID_TEST_DATA, "/golden/d_mixed");
  write_safetensors(folder_ / "no-ids.safetensors", {{"ids", at::zeros({1, 4}, at::kLong)}});
  write_safetensors(folder_ / "large.safetensors",
                    {{"input_ids", at::full({1, 4}, 1 << 20, at::kLong)}});
  write("cut.safetensors", "short");
  const auto probed = [&](const std::string& inputs) {
    return braid({"probe", golden, "--inputs", inputs, "--outputs", "outputs.safetensors"});
  };
  testing::expect_error(probed("absent.safetensors"), {"absent.safetensors"});
  testing::expect_error(probed("no-ids.safetensors"), {"no-ids.safetensors", "input_ids"});
  testing::expect_error(probed("large.safetensors"), {"input_ids", "vocabulary"});
  testing::expect_error(probed("cut.safetensors"), {"cut.safetensors"});
  EXPECT_FALSE(std::filesystem::exists(folder_ / "outputs.safetensors"));
}

}  // namespace
}  // namespace braid
