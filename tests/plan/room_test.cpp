#include "plan/room.h"

#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using testing::expect_mentions;

struct Needs {
  RunConfig config;
  Plan plan;
  double sure = 0, likely = 0;

  explicit Needs(const RunConfig& its_config) : config(its_config), plan(plan_training(config)) {
    const auto& memory = plan.memory;
    sure = memory.weights_bytes + memory.optimizer_bytes;
    likely = memory.total_bytes();
  }

  std::vector<RoomProblem> on(double total, double available, int64_t ranks = 1) const {
    return memory_problems(
        config,
        plan,
        {"here",
         ranks,
         {.total = static_cast<int64_t>(total), .available = static_cast<int64_t>(available)}});
  }
};

RunConfig tiny() {
  RunConfig config;
  config.model = testing::tiny_model();
  return config;
}

TEST(Room, OfMemoryIsRefusedWhereWeightsAndStateDoNotFitAndWarnedOfWhereTheEstimateDoesNot) {
  const Needs needs(tiny());
  ASSERT_GT(needs.likely, 2 * needs.sure);
  EXPECT_TRUE(needs.on(1e18, 1e18).empty());
  EXPECT_TRUE(needs.on(needs.likely, needs.likely).empty());

  const auto likely = needs.on(1e18, needs.likely - 2);
  ASSERT_EQ(likely.size(), 1);
  EXPECT_FALSE(likely[0].surely);
  expect_mentions(likely[0].message,
                  {"machine here",
                   "available",
                   "train.micro_batch_size than 16",
                   "train.recompute_sublayers: 2"});

  const auto sure = needs.on(needs.sure - 2, 1);
  ASSERT_EQ(sure.size(), 1);
  EXPECT_TRUE(sure[0].surely);
  expect_mentions(sure[0].message, {"machine here", "parallel.expert", "smaller model"});
  EXPECT_EQ(sure[0].message.find("micro_batch_size"), std::string::npos) << sure[0].message;

  EXPECT_TRUE(needs.on(0, 0).empty());  // a system that does not tell
}

TEST(Room, OfMemoryIsWhatAllRanksOfAMachineNeed) {
  const Needs needs(tiny());
  EXPECT_TRUE(needs.on(1e18, 3 * needs.likely, 3).empty());
  const auto problems = needs.on(1e18, 3 * needs.likely, 4);
  ASSERT_EQ(problems.size(), 1);
  expect_mentions(problems[0].message, {"4 ranks of", "fewer ranks on this machine"});
}

// Flash's adapters on one GPU: what lies where is compared with what is there.
TEST(Room, OfAGpuIsThatOfWeightsActivationsAndBuffersAndOfItsHostThatOfPinnedExperts) {
  auto config = tiny();
  config.run.init_from = "base";
  config.train.device = {DeviceChoice::Kind::kCuda};
  config.train.parameters.kind = TrainedParameters::Kind::kLora;
  CodeBytes codes;
  for (int layer = 0; layer < 3; ++layer) {
    codes[text("layers.", layer, ".ffn.experts.*.w1.weight")] = 1e9;
  }
  config.train.resident_gb = 1;
  const auto plan = plan_training(config, 1, codes);
  const auto& memory = plan.memory;
  ASSERT_EQ(memory.resident_experts_bytes, 1e9);
  ASSERT_EQ(memory.pinned_experts_bytes, 2e9);
  const auto on_gpu = [&](double total, double available) {
    return gpu_problems(
        config, plan, {"cuda:0", static_cast<int64_t>(total), static_cast<int64_t>(available)});
  };
  EXPECT_TRUE(on_gpu(4e9, memory.device_bytes() + 1).empty());
  const auto likely = on_gpu(4e9, memory.device_bytes() - 2);
  ASSERT_EQ(likely.size(), 1);
  EXPECT_FALSE(likely[0].surely);
  expect_mentions(likely[0].message, {"cuda:0 has", "available", "a smaller train.resident_gb"});
  const auto sure = on_gpu(2.9e9, 2.9e9);
  ASSERT_EQ(sure.size(), 1);
  EXPECT_TRUE(sure[0].surely);
  expect_mentions(sure[0].message, {"buffers of experts alone take", "cuda:0 has 2.70 GiB"});

  const auto on_host = [&](double total, double available) {
    return memory_problems(
        config,
        plan,
        {"here",
         1,
         {.total = static_cast<int64_t>(total), .available = static_cast<int64_t>(available)}});
  };
  EXPECT_TRUE(on_host(1e18, memory.host_bytes() + 1).empty());
  const auto warned = on_host(1e18, memory.host_bytes() - 2);
  ASSERT_EQ(warned.size(), 1);
  EXPECT_FALSE(warned[0].surely);
  expect_mentions(warned[0].message, {"train.pinned_gb", "larger train.resident_gb"});
  const auto refused = on_host(1.9e9, 1.9e9);
  ASSERT_EQ(refused.size(), 1);
  EXPECT_TRUE(refused[0].surely);
  expect_mentions(refused[0].message, {"experts in pinned memory take 1.86 GiB", "machine here"});
}

TEST(Room, OfAGpuHasWorkingCopiesThatMayBeLeftOut) {
  auto config = tiny();
  config.train.device = {DeviceChoice::Kind::kCuda};
  config.train.dtype = ComputeType::kBfloat16;
  config.train.micro_batch_size = 1;
  config.train.global_batch_size = 1;
  config.data.seq_len = 16;
  const auto problems_of = [](const RunConfig& run) {
    const auto plan = plan_training(run);
    const auto& memory = plan.memory;
    const auto held = memory.weights_bytes + memory.working_copies_bytes + memory.optimizer_bytes;
    return gpu_problems(run, plan, {"cuda:0", static_cast<int64_t>(held) - 2, 1});
  };
  const auto with = problems_of(config);
  ASSERT_EQ(with.size(), 1);
  EXPECT_TRUE(with[0].surely);
  expect_mentions(with[0].message, {"working copies", "train.working_copies: false"});
  config.train.working_copies = false;
  const auto without = problems_of(config);
  ASSERT_EQ(without.size(), 1);
  EXPECT_EQ(without[0].message.find("working_copies"), std::string::npos) << without[0].message;
}

TEST(Room, AdvisesOnlyWhatIsStillPossible) {
  auto config = tiny();
  config.train.micro_batch_size = 1;
  config.train.recompute_sublayers = 2;
  config.checkpoint.in_background = false;
  const Needs needs(config);
  const auto problems = needs.on(1e18, 1);
  ASSERT_EQ(problems.size(), 1);
  for (const auto* done : {"micro_batch_size", "recompute", "in_background"}) {
    EXPECT_EQ(problems[0].message.find(done), std::string::npos) << problems[0].message;
  }
}

TEST(Room, CountsTheCheckpointsThatAreThereAtOnce) {
  RunConfig config;
  config.train.max_steps = 1000;
  config.checkpoint = {.every_steps = 100, .keep_last = 2};
  EXPECT_EQ(checkpoints_at_once(config), 3);  // and one that is being written
  config.checkpoint.keep_last = 100;
  EXPECT_EQ(checkpoints_at_once(config), 10);
  config.checkpoint = {.every_steps = 0};
  EXPECT_EQ(checkpoints_at_once(config), 1);
  config.checkpoint.keep_best = 2;
  EXPECT_EQ(checkpoints_at_once(config), 3);
  config.checkpoint = {.every_steps = 600, .keep_last = 1};
  EXPECT_EQ(checkpoints_at_once(config), 2);
  config.checkpoint = {.every_steps = 100, .keep_last = 2, .keep_every_steps = 250};
  EXPECT_EQ(checkpoints_at_once(config), 5);  // of steps 500 and 1000 for good
}

TEST(Room, OfTheDiskIsRefusedForOneCheckpointAndWarnedOfForAll) {
  auto config = tiny();
  config.train.max_steps = 1000;
  config.checkpoint = {.every_steps = 10, .keep_last = 3};
  const auto plan = plan_training(config);
  const auto one = static_cast<int64_t>(plan.checkpoint_bytes);
  EXPECT_TRUE(disk_problems(config, plan, 4 * one).empty());
  const auto all = disk_problems(config, plan, 4 * one - 1);
  ASSERT_EQ(all.size(), 1);
  EXPECT_FALSE(all[0].surely);
  expect_mentions(all[0].message, {"4 checkpoints of", "checkpoint.keep_last"});
  const auto single = disk_problems(config, plan, one - 1);
  ASSERT_EQ(single.size(), 1);
  EXPECT_TRUE(single[0].surely);
  expect_mentions(single[0].message, {"one checkpoint takes", "run.output_dir"});
}

}  // namespace
}  // namespace braid
