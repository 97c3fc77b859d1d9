// A command writes only what is its own: devices, links, inputs and other people's folders stay.
#include <future>

#include <sys/stat.h>

#include "core/file.h"
#include "core/own_folder.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::expect_mentions;

class Outputs : public testing::CliTest {
 protected:
  Outputs() {
    fs::copy(std::string(BRAID_TEST_DATA) + "/golden/a_sliding",
             folder_ / "model",
             fs::copy_options::recursive);
    fs::rename(folder_ / "model/inputs.safetensors", folder_ / "inputs.safetensors");
  }
  testing::Outcome probe(const std::string& outputs) const {
    return braid({"probe", "model", "--inputs", "inputs.safetensors", "--outputs", outputs});
  }
  std::vector<std::string> train_command() const { return {"train", "run.yaml"}; }
};

TEST_F(Outputs, ProbeWritesThroughDevicesFifosAndLinks) {
  ASSERT_EQ(probe("plain").status, 0);
  const auto want = read_file(folder_ / "plain");
  EXPECT_EQ(probe("/dev/null").status, 0);
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
  const auto full = probe("/dev/full");
  EXPECT_EQ(full.status, 1);
  expect_mentions(full.err, {"braid: cannot write /dev/full: No space left"});

  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  auto reader = std::async(std::launch::async, [&] { return read_file(folder_ / "fifo"); });
  EXPECT_EQ(probe("fifo").status, 0);
  EXPECT_EQ(reader.get(), want);

  write("target", "old");
  fs::create_symlink("target", folder_ / "link");
  EXPECT_EQ(probe("link").status, 0);
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_EQ(read_file(folder_ / "target"), want);

  const auto shown = probe("/dev/stdout");  // into the file that standard output is
  EXPECT_EQ(shown.status, 0);
  EXPECT_NE(shown.out.find(want), std::string::npos);
}

TEST_F(Outputs, ProbeRefusesItsInputsAndItsModel) {
  fs::create_hard_link(folder_ / "model/model.safetensors", folder_ / "same");
  fs::create_symlink("inputs.safetensors", folder_ / "link");
  for (const std::string output :
       {"inputs.safetensors", "link", "model/model.safetensors", "same", "model/new"}) {
    const auto path = folder_ / output;
    const auto before = fs::exists(path) ? read_file(path) : "";
    expect_error(probe(output), {output, "this command reads"});
    EXPECT_EQ(fs::exists(path) ? read_file(path) : "", before) << output;
  }
  expect_error(probe("model"), {"is a folder"});
}

TEST_F(Outputs, TrainRefusesAFolderThatIsNoRun) {
  for (const std::string file : {"config.yaml", "metrics.jsonl", "validation.txt", "notes"}) {
    const auto path = write("runs/run/" + file, "mine");
    expect_error(braid(train_command()), {"runs/run", file, "not made by Braid", "run.name"});
    EXPECT_EQ(read_file(path), "mine");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "runs/run"), {}), 1) << file;
    fs::remove_all(folder_ / "runs");
  }
}

TEST_F(Outputs, TrainTakesAnEmptyOrMarkedFolderAndARunWithoutAMarker) {
  write("runs/run/.braid", "");
  write("runs/run/slurm.out", "mine");
  train_run();
  EXPECT_EQ(read_file(folder_ / "runs/run/slurm.out"), "mine");
  fs::remove(folder_ / "runs/run/.braid");  // as of an earlier version
  const auto again = braid(train_command());
  EXPECT_EQ(again.status, 0) << again.err;
  expect_mentions(again.out, {"The run is finished"});
  EXPECT_TRUE(fs::exists(folder_ / "runs/run/.braid"));
}

TEST_F(Outputs, TrainRefusesWhatIsNoFileInItsFolder) {
  write("runs/run/.braid", "");
  ASSERT_EQ(::mkfifo((folder_ / "runs/run/log.txt").c_str(), 0600), 0);
  expect_error(braid(train_command()), {"log.txt", "no regular file"});
  fs::remove(folder_ / "runs/run/log.txt");
  fs::create_directory(folder_ / "runs/run/metrics.jsonl");
  expect_error(braid(train_command()), {"metrics.jsonl", "no regular file"});
  fs::remove(folder_ / "runs/run/metrics.jsonl");
  write("elsewhere", "");
  fs::create_symlink("../../elsewhere", folder_ / "runs/run/config.yaml");
  train_run();
  EXPECT_TRUE(fs::is_symlink(folder_ / "runs/run/config.yaml"));
  EXPECT_NE(read_file(folder_ / "elsewhere"), "");
}

TEST_F(Outputs, ConvertAndSynthesizeReplaceNothing) {
  write("wide.yaml", "base: run.yaml\nmodel: {hidden_size: 32, moe_intermediate_size: 32}\n");
  const auto precious = write("out.partial/precious", "mine");
  const auto theirs = write("theirs/precious", "mine");
  fs::create_symlink("nowhere", folder_ / "dangling");
  const std::vector<std::vector<std::string>> commands = {
      {"convert", "model", "OUT", "--to", "hf"}, {"synthesize", "OUT", "--model", "wide.yaml"}};
  for (auto command : commands) {
    auto& out = command[0] == "convert" ? command[2] : command[1];
    out = "out";
    expect_error(braid(command), {"out.partial", "precious", "not made by Braid"});
    for (const std::string there : {"theirs", "dangling"}) {
      out = there;
      expect_error(braid(command), {there + " exists"});
    }
    out = "made-by-" + command[0];
    const auto outcome = braid(command);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    for (const char* left : {".braid", ".lock", "convert.json"}) {
      EXPECT_FALSE(fs::exists(folder_ / out / left)) << left;
    }
  }
  EXPECT_EQ(read_file(precious), "mine");
  EXPECT_EQ(read_file(theirs), "mine");
  EXPECT_TRUE(fs::is_symlink(folder_ / "dangling"));
  expect_error(braid({"convert", "model", "model/inside", "--to", "hf"}), {"lies in model"});
}

}  // namespace
}  // namespace braid
