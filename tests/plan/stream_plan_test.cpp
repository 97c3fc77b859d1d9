#include "plan/stream_plan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/parameter_names.h"
#include "model/parameters.h"
#include "plan/plan.h"
#include "run/grouped_parameters.h"

namespace braid {
namespace {

// What FP4 experts and FP8 matrices take: a scale for 32 codes of a row, or for 128 x 128.
CodeBytes released_codes(const RunConfig& config) {
  CodeBytes codes;
  const auto model = model_without_values(config);
  for (const auto& parameter : model.parameters().all()) {
    const auto& kind = *kind_of(parameter.name);
    const auto elements = static_cast<double>(parameter.value.numel());
    if (kind.form == StoredForm::kFp4) {
      codes[parameter.name] = elements * (0.5 + 1.0 / 32);
    } else if (kind.form == StoredForm::kFp8) {
      codes[parameter.name] = elements * (1 + 1.0 / (128 * 128));
    }
  }
  return codes;
}

RunConfig flash_adapters(double resident_gb) {
  auto config =
      load_run_config(std::string(BRAID_TEST_DATA) + "/../../configs/models/flash.yaml", {});
  config.run.init_from = "DeepSeek-V4-Flash";
  config.train.parameters.kind = TrainedParameters::Kind::kLora;
  config.train.device = {DeviceChoice::Kind::kCuda};
  config.train.resident_gb = resident_gb;
  config.train.dtype = ComputeType::kBfloat16;
  config.train.recompute_sublayers = 2;
  config.train.global_batch_size = config.train.micro_batch_size = 1;
  config.data.seq_len = 8192;
  config.adapter.targets.items = {"attention"};
  config.loss.mtp_weight = config.loss.mtp_decay_weight = 0;
  config.checkpoint.in_background = false;
  return config;
}

constexpr double kFlashLayer = 256 * 3.0 * 2048 * 4096 * (0.5 + 1.0 / 32);

// 43 layers and the MTP block, which are 151 GB of experts.
TEST(StreamPlan, OfFlashOnOneGpuKeepsThirtyLayersThere) {
  const auto config = flash_adapters(103);
  const auto plan = plan_training(config, 1, released_codes(config));
  const auto& memory = plan.memory;
  const auto& stream = memory.stream;
  EXPECT_EQ(stream.resident_layers, 30);
  EXPECT_EQ(stream.pinned_layers, 14);
  EXPECT_EQ(stream.mapped_layers, 0);
  EXPECT_EQ(memory.resident_experts_bytes, 30 * kFlashLayer);
  EXPECT_EQ(memory.pinned_experts_bytes, 14 * kFlashLayer);
  EXPECT_EQ(memory.expert_buffers_bytes, 2 * kFlashLayer);
  EXPECT_NEAR(memory.resident_experts_bytes, 102.7e9, 0.05e9);
  EXPECT_NEAR(memory.pinned_experts_bytes, 47.9e9, 0.05e9);
  EXPECT_NEAR(memory.working_copies_bytes, 0.09e9, 0.005e9);  // half of the adapters' masters
  EXPECT_NEAR(memory.device_bytes(), 143.6e9, 0.05e9);
  // The MTP block's experts are needed forward only; two layers are there at each turn.
  EXPECT_EQ(stream.pinned_sent_bytes, (12 + 12) * kFlashLayer);
  const auto time = planned_time(plan, {.peak_flops = 790e12, .measured = "given", .share = 0.45});
  EXPECT_NEAR(time.copies, 1.58, 0.01);
  EXPECT_NEAR(time.operations, 2.097, 0.001);  // 1.453 without what is computed again
  EXPECT_EQ(time.step, time.operations);
}

TEST(StreamPlan, CopiesFromFilesWhatPinnedMemoryHasNoRoomFor) {
  auto config = flash_adapters(103);
  config.train.pinned_gb = 30;
  const auto plan = plan_training(config, 1, released_codes(config));
  EXPECT_EQ(plan.memory.stream.pinned_layers, 8);
  EXPECT_EQ(plan.memory.stream.mapped_layers, 6);
  EXPECT_EQ(plan.memory.mapped_experts_bytes, 6 * kFlashLayer);
  PlannedSpeed speed{.peak_flops = 790e12, .measured = "given"};
  const auto& stream = plan.memory.stream;
  EXPECT_DOUBLE_EQ(planned_time(plan, speed).copies,
                   stream.pinned_sent_bytes / 52e9 + stream.mapped_sent_bytes / 5e9);
  speed.link_bytes = 1e9;  // slower than the disk
  EXPECT_DOUBLE_EQ(planned_time(plan, speed).copies,
                   (stream.pinned_sent_bytes + stream.mapped_sent_bytes) / 1e9);
  EXPECT_EQ(planned_time(plan, speed).step, planned_time(plan, speed).copies);
}

TEST(StreamPlan, CountsMicroBatchesAndRanks) {
  auto config = flash_adapters(103);
  const auto one = plan_training(config, 1, released_codes(config)).memory;
  config.train.global_batch_size = 4;
  const auto four = plan_training(config, 1, released_codes(config)).memory;
  EXPECT_EQ(four.stream.pinned_sent_bytes, 4 * one.stream.pinned_sent_bytes);
  EXPECT_EQ(four.device_bytes(), one.device_bytes());
  config.parallel.expert = 2;
  const auto divided = plan_training(config, 2, released_codes(config)).memory;
  EXPECT_EQ(divided.stream.resident_layers, 44);
  EXPECT_EQ(divided.resident_experts_bytes, 44 * kFlashLayer / 2);
  EXPECT_EQ(divided.expert_buffers_bytes, 0);
}

TEST(StreamPlan, OfACpuLeavesExpertsInTheirFiles) {
  auto config = flash_adapters(0);
  config.train.device = {};
  config.train.resident_gb.reset();
  const auto memory = plan_training(config, 1, released_codes(config)).memory;
  EXPECT_FALSE(memory.on_gpu || memory.stream.copies());
  EXPECT_EQ(memory.mapped_experts_bytes, 44 * kFlashLayer);
  EXPECT_EQ(memory.resident_experts_bytes + memory.pinned_experts_bytes, 0);
}

// Where nothing is computed again, every layer is needed twice; two are there at each turn.
TEST(StreamPlan, CopiesWhatIsComputedAgainTogetherMoreOften) {
  const auto sent = [](std::optional<int64_t> sublayers) {
    auto config = flash_adapters(0);
    config.train.recompute_sublayers = sublayers;
    config.loss.mtp_weight = config.loss.mtp_decay_weight = 0.3;
    return plan_training(config, 1, released_codes(config)).memory.stream.pinned_sent_bytes /
           kFlashLayer;
  };
  EXPECT_EQ(sent(2), 2 * (44 - 2));
  EXPECT_EQ(sent({}), 2 * (44 - 2));
  EXPECT_GT(sent(8), 2.5 * 44);
}

TEST(StreamPlan, IsShownByPlaceAndWithTheTimeOfItsCopies) {
  const auto config = flash_adapters(103);
  const auto plan = plan_training(config, 1, released_codes(config));
  const auto shown = report(plan, {.peak_flops = 790e12, .measured = "given"});
  const auto& rows = shown.at("where it is, of each rank");
  EXPECT_EQ(rows.front().at("of"), "experts in codes");
  EXPECT_EQ(rows.front().at("device_bytes"), 30 * kFlashLayer);
  EXPECT_EQ(rows.front().at("host_bytes"), 14 * kFlashLayer);
  EXPECT_EQ(rows.back().at("of"), "total");
  for (const auto* column : {"device_bytes", "host_bytes", "disk_bytes"}) {
    double sum = 0;
    for (const auto& row : rows) {
      sum += row.at("of") == "total" ? 0 : row.at(column).get<double>();
    }
    EXPECT_DOUBLE_EQ(rows.back().at(column), sum) << column;
  }
  EXPECT_EQ(shown.at("experts copied to the GPU").at("layers_from_pinned_memory"), 14);
  EXPECT_GT(shown.at("time, estimated").at("copies_of_a_step_seconds"), 1.5);
  auto all = config;
  all.train.resident_gb.reset();
  const auto without =
      report(plan_training(all, 1, released_codes(all)), {.peak_flops = 1e12, .measured = "given"});
  EXPECT_FALSE(without.contains("experts copied to the GPU"));
  EXPECT_FALSE(without.at("time, estimated").contains("copies_of_a_step_seconds"));
}

}  // namespace
}  // namespace braid
