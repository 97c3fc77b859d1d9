// A run that starts from another model has its architecture, unless it says otherwise.
#include "formats/open_model.h"
#include "run/config.h"
#include "tests/robustness/model_folders.h"

namespace braid {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::expect_mentions;

class BaseModel : public testing::ModelFolders {
 protected:
  /// A base whose numbers no shape shows, and a run without a word about the model.
  BaseModel() {
    auto model = quantizable_model();
    model.sliding_window = 7;
    model.rope_theta = 5000;
    model.routed_scaling_factor = 2.25;
    model.rms_norm_eps = 1e-5;
    release("base", model);
    const auto run = dump_config(config("run"));
    const auto begin = run.find("model:"), end = run.find("tokenizer:");
    write("run.yaml", run.substr(0, begin) + run.substr(end));
  }

  testing::Outcome train(const std::string& name, std::vector<std::string> settings) const {
    std::vector<std::string> arguments = {"train", "run.yaml"};
    settings.push_back("run.name=" + name);
    for (const auto& setting : settings) {
      arguments.insert(arguments.end(), {"--set", setting});
    }
    return braid(arguments);
  }

  ModelConfig config_of(const std::string& run) const {
    return load_run_config((folder_ / "runs" / run / "config.yaml").string(), {}).model;
  }
};

TEST_F(BaseModel, BringsItsArchitecture) {
  for (const auto* way : {"model.max_position_embeddings=512", "model=from_base"}) {
    const auto name = std::string(way).substr(6, 3);
    const auto outcome = train(name, {"run.init_from=base", way, "train.max_steps=1"});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const auto model = config_of(name);
    EXPECT_EQ(model.sliding_window, 7);
    EXPECT_EQ(model.rope_theta, 5000);
    EXPECT_EQ(model.routed_scaling_factor, 2.25);
    EXPECT_EQ(model.rms_norm_eps, 1e-5);
    EXPECT_EQ(model.num_nextn_predict_layers, 1);
  }
  EXPECT_EQ(config_of("max").max_position_embeddings, 512) << "a limit may differ";
  expect_converted("runs/fro", "tuned", "release");
  const auto json = nlohmann::json::parse(read_file(folder_ / "tuned/config.json"));
  EXPECT_EQ(json.at("sliding_window"), 7);
  EXPECT_EQ(json.at("rope_theta"), 5000);
  // The run's own configuration starts it again.
  const auto again =
      braid({"train", "runs/fro/config.yaml", "--set", "run.name=again", "--stop-at-step", "1"});
  EXPECT_EQ(again.status, 0) << again.err;
}

TEST_F(BaseModel, AContradictionIsAnErrorWithBothValuesAndFiles) {
  expect_error(train("a", {"run.init_from=base", "model.sliding_window=4"}),
               {"model.sliding_window (--set)",
                "is 4, but the base base has 7",
                "base/config.json",
                "model.override"});
  expect_error(train("a", {"run.init_from=base", "model.rope_theta=9e3", "model.hc_mult=4"}),
               {"model.hc_mult", "has 2", "so do", "rope_theta"});
  expect_error(train("a", {"run.init_from=base", "model.rope_scaling.factor=4"}),
               {"model.rope_scaling.factor (--set)", "is 4", "has 1"});
  expect_error(train("a", {"run.init_from=base", "model.compress_ratios=[0,8,8]"}),
               {"model.compress_ratios (--set)", "layer 1 = hca with ratio 8", "csa with ratio 4"});
  expect_error(train("a", {"run.init_from=base", "model.num_hash_layers=2"}),
               {"model.num_hash_layers (--set)", "layer 1 = hash", "layer 1 = learned"});
  expect_error(train("a", {"run.init_from=nowhere"}), {"run.init_from (--set)", "no folder"});
  EXPECT_FALSE(fs::exists(folder_ / "runs/a"));
}

TEST_F(BaseModel, WhatIsMeantAndWhatMeansTheSameIsTaken) {
  const auto outcome = train("run",
                             {"run.init_from=base",
                              "train.max_steps=1",
                              "model.sliding_window=4",
                              "model.rope_scaling.factor=4",
                              "model.override=[sliding_window, rope_scaling.factor]",
                              "model.qat_experts=fp8",                 // only training
                              "model.layer_types=[window, csa, hca]",  // another spelling
                              "model.compress_ratios=[0, 4, 8]",
                              "model.routing=[hash, learned, learned]"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto model = config_of("run");
  EXPECT_EQ(model.sliding_window, 4);
  EXPECT_EQ(model.rope_scaling.factor, 4);
  EXPECT_EQ(model.rope_theta, 5000);
  EXPECT_EQ(model.qat_experts, QuantFormat::kFp8);
  expect_error(train("b", {"run.init_from=base", "model.override=[sliding_widow]"}),
               {"model.override[0]", "sliding_widow", "no key of the model"});
  expect_error(train("b", {"model.override=[rope_theta]"}), {"model.override", "run.init_from"});
  expect_error(train("b", {"model=from_base"}), {"model (--set)", "from_base", "run.init_from"});
}

TEST_F(BaseModel, TheMtpBlockMayBeLeftOutOrAdded) {
  const auto without = train("without",
                             {"run.init_from=base",
                              "train.max_steps=1",
                              "model.num_nextn_predict_layers=0",
                              "model.override=[num_nextn_predict_layers]"});
  ASSERT_EQ(without.status, 0) << without.err;
  EXPECT_EQ(generate("runs/without").status, 0);
  expect_converted("runs/without", "trunk", "release");
  expect_error(train("with", {"run.init_from=trunk", "model.num_nextn_predict_layers=1"}),
               {"model.num_nextn_predict_layers", "is 1", "has 0"});
  const std::vector<std::string> grown = {"run.init_from=trunk",
                                          "model.num_nextn_predict_layers=1",
                                          "model.override=[num_nextn_predict_layers]"};
  auto stopped = grown;
  stopped.emplace_back("train.max_steps=1");
  const auto with = train("with", stopped);
  ASSERT_EQ(with.status, 0) << with.err;
  expect_mentions(with.out, {"the MTP block starts from random values"});
  EXPECT_TRUE(read_model(folder_ / "runs/with").weights.contains("mtp.0.e_proj.weight"));
  auto longer = grown;
  longer.emplace_back("train.max_steps=2");
  const auto continued = train("with", longer);
  ASSERT_EQ(continued.status, 0) << continued.err;
  expect_mentions(continued.out, {"continuing after step 1"});
}

TEST_F(BaseModel, ARunThatContinuesKeepsItsOwnArchitecture) {
  ASSERT_EQ(train("run", {"run.init_from=base", "train.max_steps=1"}).status, 0);
  ASSERT_EQ(train("drawn", {"train.max_steps=1"}).status, 0);
  // Whatever becomes of the base's config.json.
  set_key(folder_ / "base", "sliding_window", "3");
  const auto continued = train("run", {"run.init_from=base", "train.max_steps=2"});
  ASSERT_EQ(continued.status, 0) << continued.err;
  expect_mentions(continued.out, {"continuing after step 1"});
  EXPECT_EQ(config_of("run").sliding_window, 7);
  expect_error(train("drawn", {"run.init_from=base", "train.max_steps=2"}),
               {"run.init_from (--set)",
                "exists and continues from",
                "runs/drawn/checkpoints/step-00000001",
                "random weights",
                "--resume none"});
}

TEST_F(BaseModel, IsPlannedAsItRuns) {
  const auto plan = braid({"plan", "run.yaml", "--set", "run.init_from=base", "--json"});
  EXPECT_EQ(plan.status, 0) << plan.err;
  expect_error(
      braid(
          {"plan", "run.yaml", "--set", "run.init_from=base", "--set", "model.rms_norm_eps=1e-6"}),
      {"model.rms_norm_eps (--set)", "1e-06", "1e-05"});
}

}  // namespace
}  // namespace braid
