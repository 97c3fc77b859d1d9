#include "run/device_choice.h"

#include <gtest/gtest.h>

#include "run/config.h"
#include "tests/loading/corpus.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

TEST(DeviceChoice, IsTheCpuAnyGpuOrOneByItsNumber) {
  for (const auto* spelled : {"cpu", "cuda", "cuda:0", "cuda:12"}) {
    const auto choice = DeviceChoice::parse(spelled);
    ASSERT_TRUE(choice) << spelled;
    EXPECT_EQ(choice->spelled(), spelled);
  }
  for (const auto* other : {"",
                            "CPU",
                            "gpu",
                            "cuda:",
                            "cuda:-1",
                            "cuda:1x",
                            "cuda: 1",
                            "cuda:1000",
                            "cuda0",
                            "cpu:0"}) {
    EXPECT_FALSE(DeviceChoice::parse(other)) << other;
  }
}

TEST(DeviceChoice, IsAKeyOfTheRun) {
  const auto run = [](const std::string& device) {
    return config_of_overrides<RunConfig>({"train.device=" + device});
  };
  EXPECT_EQ(RunConfig().train.device.spelled(), "cpu");
  const auto third = run("cuda:3");
  EXPECT_EQ(third.train.device.number, 3);
  testing::expect_mentions(dump_config(third), {"device: \"cuda:3\""});
  testing::expect_mentions(testing::error_of([&] { run("gpu"); }),
                           {"train.device", "expected cpu, cuda, or cuda:N", "gpu"});
  testing::expect_mentions(testing::error_of([&] { run("[cuda]"); }), {"train.device", "expected"});
}

TEST(DeviceChoice, OfTheCpuIsTheCpu) {
  EXPECT_EQ(device_of({}, "train.device"), at::Device(at::kCPU));
}

// Of a machine without a GPU, or a build that knows none.
TEST(DeviceChoice, OfAGpuThatIsNotThereSaysWhoAskedForIt) {
  const auto problem = testing::error_of([] {
    device_of({DeviceChoice::Kind::kCuda, 99}, "--device");
  });
  testing::expect_mentions(problem, {"--device is cuda:99, but "});
}

}  // namespace
}  // namespace braid
