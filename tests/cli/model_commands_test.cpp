// generate and probe on a real run and on a reference model.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "checkpoint/safetensors.h"
#include "tests/cli/cli_test.h"
#include "tests/support/compare.h"
#include "train/open_model.h"
#include "train/probe.h"

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
  testing::expect_error(braid({"generate", "absent"}), {"absent", "no such folder"});
  testing::expect_error(braid({"generate", "."}), {".", "config.json", "checkpoints"});
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
