// Starting several ranks: where they may not work together, and what scripts/mpirun.sh gives
// mpirun.
#include <array>
#include <cstdio>

#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using testing::expect_mentions;

class RanksStart : public testing::CliTest {
 protected:
  // Stands before the system's programs of that name.
  void pretend(const std::string& program, const std::string& script) const {
    const auto path = write("programs/" + program, "#!/bin/sh\n" + script + "\n");
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }

  // Both outputs of scripts/mpirun.sh.
  std::string script(const std::string& arguments) const {
    const auto command = "cd '" + folder_.string() + "' && PATH='" +
                         (folder_ / "programs").string() +
                         "':$PATH SLURM_JOB_ID= OMPI_MCA_btl_vader_backing_directory= '" +
                         std::string(BRAID_SCRIPTS) + "/mpirun.sh' " + arguments + " 2>&1";
    auto* pipe = popen(command.c_str(), "r");
    std::string said;
    std::array<char, 4096> buffer{};
    while (const std::size_t count = fread(buffer.data(), 1, buffer.size(), pipe)) {
      said.append(buffer.data(), count);
    }
    pclose(pipe);
    return said;
  }
};

TEST_F(RanksStart, InFoldersThatTheyDoNotShareIsRefusedBeforeTheFirstStep) {
  std::filesystem::create_directories(folder_ / "elsewhere");
  const auto outcome = braid({"train",
                              (folder_ / "run.yaml").string(),
                              "--set",
                              "run.output_dir=runs",
                              "--set",
                              "train.global_batch_size=4"},
                             {.ranks = 2, .folder_of_last_rank = folder_ / "elsewhere"});
  EXPECT_NE(outcome.status, 0);
  expect_mentions(outcome.err,
                  {"rank 1", "this is not the folder that rank 0 has", "run.output_dir"});
  EXPECT_EQ(outcome.out.find("step 1"), std::string::npos) << outcome.out;
}

TEST_F(RanksStart, MayBeMoreThanTheCoresOfThisMachine) {
  pretend("mpirun", "echo \"mpirun $*\"");
  pretend("df", "echo Avail; echo 1000000000000");
  EXPECT_EQ(script("-n 64 cat x"), "mpirun --bind-to none --oversubscribe -n 64 cat x\n");
  // Whoever says where ranks go, says all of it.
  for (const std::string placed :
       {"--hostfile hosts -n 64 cat", "-n 64 --map-by ppr:4:node cat", "-H a,b -n 64 cat"}) {
    EXPECT_EQ(script(placed), "mpirun --bind-to none " + placed + "\n");
  }
}

TEST_F(RanksStart, WarnsOfSharedMemoryThatIsTooSmallForThem) {
  pretend("mpirun", "true");
  pretend("df", "echo Avail; echo 67108864");  // of a container
  EXPECT_EQ(script("-n 4 cat"), "");
  for (const std::string ranks : {"-n 20 cat", "--mca a b -np 20 cat", "-n 10 cat : -n 10 cat"}) {
    expect_mentions(script(ranks), {"/dev/shm has room for 64 MiB", "20 ranks", "--shm-size"});
  }
  EXPECT_EQ(script("--mca btl_vader_backing_directory /tmp -n 20 cat"), "");
  EXPECT_EQ(script("-n 4 cat -n 100"), "");  // the program's own
}

}  // namespace
}  // namespace braid
