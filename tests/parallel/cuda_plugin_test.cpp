// Each reason why no GPU can be used, with libraries of the test in place of the real ones.
#include "parallel/cuda_plugin.h"

#include <cstdlib>
#include <fstream>

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/temporary_folder.h"

namespace braid {
namespace {

// FAKE_FOLDER has what CMakeLists.txt beside this file builds of fake_plugin.cpp.
std::filesystem::path fake(const std::string& name) {
  return std::filesystem::path(FAKE_FOLDER) / name;
}

class CudaPluginTest : public ::testing::Test {
 protected:
  void SetUp() override { set_machine(13000, 1); }
  void TearDown() override {
    unsetenv("BRAID_FAKE_DRIVER");
    unsetenv("BRAID_FAKE_DEVICES");
  }

  static void set_machine(int driver, int devices) {
    setenv("BRAID_FAKE_DRIVER", std::to_string(driver).c_str(), 1);
    setenv("BRAID_FAKE_DEVICES", std::to_string(devices).c_str(), 1);
  }
  std::string problem() const {
    try {
      open_cuda_plugin(places_);
    } catch (const Error& error) {
      return error.what();
    }
    return "none";
  }

  CudaPluginPlaces places_{
      {fake("libfake_plugin.so")}, fake("libfake_empty.so"), fake("libfake_empty.so")};
};

TEST_F(CudaPluginTest, OpensWhereAllIsThere) {
  places_.plugin.insert(places_.plugin.begin(), fake("nothing.so"));
  const auto& plugin = open_cuda_plugin(places_);
  EXPECT_EQ(plugin.device_count(), 1);
  EXPECT_EQ(plugin.device(0).name, "a GPU of the test");
}

TEST_F(CudaPluginTest, SaysHowToMakeAPluginThatIsNotThere) {
  places_.plugin = {"/no/libbraid_cuda.so", "/no/lib/libbraid_cuda.so"};
  EXPECT_EQ(problem(),
            "no GPU can be used: the plugin libbraid_cuda.so is not there (/no/libbraid_cuda.so, "
            "/no/lib/libbraid_cuda.so); scripts/setup.sh --cuda, cmake --preset cuda and ninja -C "
            "build-cuda make it");
}

TEST_F(CudaPluginTest, RefusesAPluginOfAnotherBuild) {
  places_.plugin = {fake("libfake_plugin_of_another_build.so")};
  EXPECT_EQ(problem(),
            text("no GPU can be used: ",
                 places_.plugin[0].string(),
                 " is of another build of Braid (Braid 0.0.1; this program is ",
                 cuda_plugin_stamp(),
                 "); build and install both together"));
  places_.plugin = {fake("libfake_empty.so")};
  EXPECT_NE(problem().find("is of another build of Braid (unknown;"), std::string::npos);
}

TEST_F(CudaPluginTest, NamesALibraryThatIsMissing) {
  const auto needs = fake("libfake_needs_another.so");
  const std::string expected = text("no GPU can be used: ",
                                    needs.string(),
                                    " needs libfake_gone.so, which is missing; scripts/setup.sh "
                                    "--cuda installs it");
  places_.torch = needs;
  EXPECT_EQ(problem(), expected);
  places_.torch = fake("libfake_empty.so");
  places_.plugin = {needs};
  EXPECT_EQ(problem(), expected);
  places_.torch = "/no/libtorch_cuda.so";
  EXPECT_EQ(problem(),
            "no GPU can be used: /no/libtorch_cuda.so is missing; scripts/setup.sh --cuda installs "
            "it");
}

TEST_F(CudaPluginTest, SaysWhatIsWrongWithALibraryThatDoesNotLoad) {
  const auto folder = made_temporary_folder("library");
  const auto damaged = folder.path() / "libbraid_cuda.so";
  std::ofstream(damaged) << "no library";
  places_.plugin = {damaged};
  EXPECT_NE(problem().find(damaged.string() + " does not load: "), std::string::npos) << problem();
}

TEST_F(CudaPluginTest, SaysThatThereIsNoDriver) {
  set_machine(0, 0);
  EXPECT_EQ(problem(),
            "no GPU can be used: there is no NVIDIA driver (CUDA's runtime finds none); install "
            "it, or train on the CPU");
  places_.driver = "libno_driver.so.1";
  EXPECT_EQ(problem(),
            "no GPU can be used: there is no NVIDIA driver (libno_driver.so.1 does not load); "
            "install it, or train on the CPU");
}

TEST_F(CudaPluginTest, SaysThatTheDriverIsTooOld) {
  set_machine(12080, 1);
  EXPECT_EQ(problem(),
            "no GPU can be used: the NVIDIA driver is too old: it knows CUDA 12.8, and "
            "libbraid_cuda.so needs CUDA 13.0 or newer; update the driver");
}

TEST_F(CudaPluginTest, ADriverOfAnyLaterVersionWillDo) {
  set_machine(14020, 2);
  EXPECT_EQ(open_cuda_plugin(places_).device_count(), 2);
}

TEST_F(CudaPluginTest, SaysThatNoGpuIsVisible) {
  set_machine(13000, 0);
  unsetenv("CUDA_VISIBLE_DEVICES");
  EXPECT_EQ(problem(),
            "no GPU can be used: the NVIDIA driver shows no GPU (no device of the test); "
            "nvidia-smi lists those of the machine");
  setenv("CUDA_VISIBLE_DEVICES", "-1", 1);
  EXPECT_EQ(problem(),
            "no GPU can be used: the NVIDIA driver shows no GPU (no device of the test; "
            "CUDA_VISIBLE_DEVICES is '-1'); nvidia-smi lists those of the machine");
  unsetenv("CUDA_VISIBLE_DEVICES");
}

TEST_F(CudaPluginTest, IsLookedForBesideTheProgramAndInTheLibFolder) {
  unsetenv("BRAID_CUDA_PLUGIN");
  const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const auto usual = CudaPluginPlaces::usual();
  ASSERT_EQ(usual.plugin.size(), 2U);
  EXPECT_EQ(usual.plugin[0], program / "libbraid_cuda.so");
  EXPECT_EQ(usual.plugin[1], program.parent_path() / LIB_FOLDER / "libbraid_cuda.so");
  EXPECT_TRUE(std::filesystem::exists(usual.torch.parent_path() / "libtorch_cpu.so"));
  setenv("BRAID_CUDA_PLUGIN", "/elsewhere/libbraid_cuda.so", 1);
  EXPECT_EQ(CudaPluginPlaces::usual().plugin[0], "/elsewhere/libbraid_cuda.so");
  unsetenv("BRAID_CUDA_PLUGIN");
}

#ifdef REAL_PLUGIN
// With LibTorch's CUDA half and all that it needs; only the driver may be missing.
TEST(RealCudaPlugin, LoadsAndKnowsWhetherThereIsADriver) {
  auto places = CudaPluginPlaces::usual();
  places.plugin = {REAL_PLUGIN};
  places.driver = fake("libfake_empty.so");
  try {
    const auto& plugin = open_cuda_plugin(places);
    EXPECT_GT(plugin.device_count(), 0);
    EXPECT_GT(plugin.memory(0).total, 0);
  } catch (const Error& error) {
    const std::string said = error.what();
    EXPECT_TRUE(said.find("there is no NVIDIA driver (CUDA's runtime finds none)") !=
                    std::string::npos ||
                said.find("the driver is too old") != std::string::npos ||
                said.find("shows no GPU") != std::string::npos)
        << said;
  }
}
#endif

}  // namespace
}  // namespace braid
