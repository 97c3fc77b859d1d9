// What a run measures of itself: that the numbers are what they are called, and that measuring
// changes no bit.
#include "train/monitors.h"

#include <cmath>
#include <set>

#include <ATen/ATen.h>

#include "run/metric_keys.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

class MonitorsTest : public TinyRun {
 protected:
  /// Everything in every step.
  RunConfig measured(const std::string& name) const {
    auto run = config(name);
    run.logging.monitor_every_steps = 1;
    run.logging.monitor_tokens = 20;
    run.logging.dead_after_steps = 2;
    return run;
  }
};

double value_of(const Tally& tally, const std::string& name) {
  for (const auto& [key, value] : tally.values()) {
    if (key == name) {
      return value;
    }
  }
  ADD_FAILURE() << "nothing called " << name;
  return std::nan("");
}

void expect_equal_tensors(const Checkpoint& got, const Checkpoint& want) {
  std::size_t compared = 0;
  for (const auto& [name, value] : got.tensors) {
    if (name.starts_with("monitors/")) {
      continue;
    }
    ASSERT_LT(compared, want.tensors.size());
    EXPECT_EQ(name, want.tensors[compared].name);
    expect_bitwise_equal(name, value, want.tensors[compared++].value);
  }
  EXPECT_EQ(compared, want.tensors.size());
}

TEST_F(MonitorsTest, ChangeNoBitOfTheRun) {
  for (const bool recompute : {false, true}) {
    SCOPED_TRACE(recompute);
    auto with = measured(text("with-", recompute)), without = config(text("without-", recompute));
    without.logging.monitors = {};
    for (auto* run : {&with, &without}) {
      run->loss.indexer_mode = IndexerMode::kSparse;
      run->model.qat_experts = QuantFormat::kFp8;
      if (recompute) {
        run->train.recompute_sublayers = 1;
      }
    }
    train(with, 5);
    train(without, 5);
    expect_equal_tensors(load_checkpoint(newest_checkpoint(with)),
                         load_checkpoint(newest_checkpoint(without)));
    const auto got = metrics_but_timings(with), want = metrics_but_timings(without);
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
      for (const auto& [key, value] : want[i].items()) {
        EXPECT_EQ(got[i].at(key), value) << key;
      }
    }
  }
}

TEST_F(MonitorsTest, GiveTheKeysThatAlarmsKnow) {
  auto run = measured("run");
  run.train.max_steps = 1;
  train(run);
  const auto record = metrics_of_step(run, 1);
  std::set<std::string> known, all;
  for (const auto& [key, monitor] : metric_keys(run)) {
    known.insert(key);
  }
  for (const auto& [key, value] : record.items()) {
    all.insert(key);
    EXPECT_TRUE(key == "step" || known.contains(key)) << key;
  }
  for (const auto* key : {"update_rms.muon.experts",    "update_rms.adamw.embedding",
                          "update_rms.muon.mtp",        "orthogonality_error",
                          "orthogonality_rank",         "weight_rms.residual",
                          "attention_logit_max.window", "attention_mass.csa.compressed",
                          "attention_mass.hca.sink",    "attention_rms.window.query",
                          "attention_rms.csa.key",      "expert_entropy.0",
                          "expert_entropy.mtp",         "expert_dead.1",
                          "expert_bias_range.2",        "swiglu_clamped.routed",
                          "swiglu_max.shared",          "residual_error.rows",
                          "residual_entropy",           "residual_gain.forward",
                          "residual_gain.backward_max", "mtp_ratio"}) {
    EXPECT_TRUE(all.contains(key)) << key;
  }
  EXPECT_FALSE(all.contains("expert_dead.0"));  // a hash layer
  EXPECT_NEAR(record.at("mtp_ratio").get<double>(),
              record.at("mtp_loss").get<double>() / record.at("loss").get<double>(),
              1e-12);
}

TEST_F(MonitorsTest, ThatAreOffGiveNothing) {
  auto run = measured("run");
  run.logging.monitors = MonitorSet::of({Monitor::kWeights});
  run.stability.alarms = {};
  run.train.max_steps = 2;
  run.logging.monitor_every_steps = 2;
  train(run);
  for (const auto& [key, monitor] : metric_keys(run)) {
    if (monitor) {
      EXPECT_FALSE(metrics_of_step(run, 1).contains(key)) << key;
      EXPECT_TRUE(monitor == Monitor::kWeights || !metrics_of_step(run, 2).contains(key)) << key;
    }
  }
  EXPECT_TRUE(metrics_of_step(run, 2).contains("weight_rms.experts"));
  for (const auto& [name, value] : load_checkpoint(newest_checkpoint(run)).tensors) {
    EXPECT_FALSE(name.starts_with("monitors/")) << name;
  }
}

TEST_F(MonitorsTest, AreTheSameInARunThatStops) {
  train(measured("whole"));
  for (int step = 0; step < 6; ++step) {
    train(measured("stopped"), 1);
  }
  expect_same_run(measured("stopped"), measured("whole"));
}

TEST_F(MonitorsTest, TheFirstUpdateOfAdamWHasTheSizeOfTheRate) {
  auto run = measured("run");
  run.train.dtype = ComputeType::kFloat64;
  run.train.max_steps = 1;
  run.schedule.warmup_steps = 0;
  run.optimizer.groups = {{.match = "head.weight", .learning_rate_scale = 0.5}};
  train(run);
  const auto record = metrics_of_step(run, 1);
  // m / sqrt(v) is the sign of the gradient, whatever the group's rate.
  EXPECT_NEAR(record.at("update_rms.adamw.head").get<double>(), 1, 1e-6);
  EXPECT_NEAR(record.at("update_rms.adamw.norms").get<double>(), 1, 1e-3);
}

TEST_F(MonitorsTest, UpdatesOfMuonAreOrthogonalMatricesOfTheConfiguredSize) {
  auto run = measured("run");
  run.train.dtype = ComputeType::kFloat64;
  run.train.max_steps = 3;
  run.optimizer.muon.update_rms = 0.25;
  train(run);
  for (const int64_t step : {1, 2, 3}) {
    const auto record = metrics_of_step(run, step);
    const double rank = record.at("orthogonality_rank");
    EXPECT_LT(record.at("orthogonality_error").get<double>(), 0.01) << step;
    EXPECT_GT(rank, 0.1) << step;
    EXPECT_LE(rank, 1) << step;
    const double rms = record.at("update_rms.muon.shared_experts");
    EXPECT_LT(rms, 0.25 * 1.01) << step;
    EXPECT_GT(rms, 0.25 * 0.5) << step;
  }
}

TEST(UpdateMonitorTest, MeasuresWhatAStepSubtractsBesideTheDecay) {
  ProcessGrid grid(alone(), {});
  const auto value = at::linspace(-1, 1, 6 * 10, at::kDouble).view({6, 10}).contiguous();
  value.set_requires_grad(true);
  const auto gradient = at::eye(6, 10, at::kDouble) + 0.1 * value.detach().flip({1});
  std::vector<GroupedParameter> parameters = {{.parameter = {"layers.0.attn.wq_a.weight", value},
                                               .optimizer = OptimizerKind::kMuon,
                                               .learning_rate_scale = 2,
                                               .weight_decay = 0.1}};
  OptimizerConfig config;
  ShardedOptimizer optimizer(config, {}, parameters, grid);
  UpdateMonitor monitor(optimizer, grid.place, config.muon);
  optimizer.begin_step(TrainedParts::all());
  optimizer.begin_micro_batch(true);
  (value * gradient).sum().backward();
  optimizer.reduce();
  optimizer.squared_norms();
  monitor.before_step(1, TrainedParts::all(), 0.05);
  optimizer.step(0.05, 1);
  Tally tally;
  monitor.after_step(tally);
  monitor.add_weights(tally);
  EXPECT_NEAR(value_of(tally, "update_rms.muon.attention"), config.muon.update_rms, 1e-3);
  EXPECT_LT(value_of(tally, "orthogonality_error"), 1e-3);
  EXPECT_EQ(value_of(tally, "orthogonality_rank"), 1);
  EXPECT_NEAR(value_of(tally, "weight_rms.attention"),
              value.detach().square().mean().sqrt().item<double>(),
              1e-12);
}

// Two rows of four tokens, the last of which is padding.
Geometry small_geometry() {
  Geometry geometry;
  geometry.documents = {.number_T = at::tensor({0, 0, 0, 0, 1, 1, 1, 2}, at::kLong), .count = 2};
  const auto position_S = at::arange(4, at::kLong);
  geometry.raw[2].visible = {(position_S - 1).clamp_min(0).expand({2, 4}).contiguous(),
                             (position_S + 1).expand({2, 4}).contiguous()};
  return geometry;
}

TEST(PassMonitorTest, DividesAttentionAmongSinkWindowAndEntries) {
  const auto model = tiny_model();  // layer 1 is CSA
  PassMonitor monitor(model, MonitorSet::all(), 100);
  const auto geometry = small_geometry();
  monitor.begin(geometry);
  const int64_t N = 2, H = 3, C = 2;
  const auto numbers = [](at::IntArrayRef sizes) {
    const int64_t count = c10::multiply_integers(sizes);
    return (at::arange(count, at::kDouble) * 0.7).sin().view(sizes);
  };
  const AttentionTeacher inputs{numbers({2, 4, N, H}),
                                numbers({2, 4, H}),
                                numbers({2, C, H}),
                                numbers({N}),
                                geometry.raw.at(2).visible,
                                0.5};
  const auto none_BS = at::zeros({2, 4}, at::kLong);
  const SeenEntries seen{{none_BS, at::full({2, 4}, C, at::kLong)},
                         at::tensor({-1, -1, 0, 1}, at::kLong).view({1, 4, 1}).repeat({2, 1, 1})};
  monitor.attention(1, inputs, seen);
  double highest = -1e9, window = 0, entries = 0, sink = 0, query_squares = 0, key_squares = 0;
  int64_t keys_seen = 0;
  for (int64_t t = 0; t < 7; ++t) {
    const int64_t b = t / 4, s = t % 4;
    for (int64_t n = 0; n < N; ++n) {
      query_squares += inputs.q_BSNH[b][s][n].square().sum().item<double>();
      const auto logit = [&](const at::Tensor& keys, int64_t key) {
        const double z = 0.5 * inputs.q_BSNH[b][s][n].dot(keys[b][key]).item<double>();
        highest = std::max(highest, z);
        key_squares += keys[b][key].square().sum().item<double>();
        ++keys_seen;
        return std::exp(z);
      };
      double of_window = 0, of_entries = 0;
      for (int64_t u = std::max<int64_t>(0, s - 1); u <= s; ++u) {
        of_window += logit(inputs.kv_BUH, u);
      }
      if (s >= 2) {
        of_entries += logit(inputs.compressed_BCH, s - 2);
      }
      const double z = inputs.sink_N[n].item<double>();
      highest = std::max(highest, z);
      const double all = of_window + of_entries + std::exp(z);
      window += of_window / all / 14;
      entries += of_entries / all / 14;
      sink += std::exp(z) / all / 14;
    }
  }
  Tally tally;
  monitor.finish(tally);
  EXPECT_NEAR(value_of(tally, "attention_logit_max.csa"), highest, 1e-12);
  EXPECT_NEAR(value_of(tally, "attention_mass.csa.window"), window, 1e-12);
  EXPECT_NEAR(value_of(tally, "attention_mass.csa.compressed"), entries, 1e-12);
  EXPECT_NEAR(value_of(tally, "attention_mass.csa.sink"), sink, 1e-12);
  EXPECT_NEAR(
      value_of(tally, "attention_rms.csa.query"), std::sqrt(query_squares / (7 * N * H)), 1e-12);
  EXPECT_NEAR(value_of(tally, "attention_rms.csa.key"),
              std::sqrt(key_squares / (static_cast<double>(keys_seen) * H)),
              1e-12);
}

TEST(PassMonitorTest, GainsAreOfTheProductOfAllLayers) {
  auto model = tiny_model();
  model.num_hidden_layers = 1;
  PassMonitor monitor(model, MonitorSet::all(), 100);
  monitor.begin(small_geometry());
  // H = mix^T of the two sublayers; of the padding something that must not be seen.
  const auto first = at::tensor({1.0, 0.5, 0.0, 1.0}, at::kDouble).view({2, 2}),
             second = at::tensor({1.0, 0.0, -3.0, 1.0}, at::kDouble).view({2, 2});
  const auto everywhere = [](const at::Tensor& mix) {
    auto all = mix.expand({2, 4, 2, 2}).clone();
    all[1][3].fill_(99);
    return all;
  };
  monitor.residual(0, everywhere(first));
  monitor.residual(0, everywhere(second));
  monitor.residual(1, everywhere(7 * first));  // the MTP block
  const auto P = at::matmul(second.transpose(0, 1), first.transpose(0, 1));
  Tally tally;
  monitor.finish(tally);
  for (const auto* end : {"", "_max"}) {
    EXPECT_NEAR(value_of(tally, std::string("residual_gain.forward") + end),
                P.sum(1).abs().max().item<double>(),
                1e-12);
    EXPECT_NEAR(value_of(tally, std::string("residual_gain.backward") + end),
                P.sum(0).abs().max().item<double>(),
                1e-12);
  }
  EXPECT_NEAR(value_of(tally, "residual_error.rows"), 3, 1e-12);     // second: (-2, 1)
  EXPECT_NEAR(value_of(tally, "residual_error.columns"), 3, 1e-12);  // second: (1, -2)
}

TEST(PassMonitorTest, EntropyIsOfTheRowsOfMhcsMixingMatrices) {
  auto model = tiny_model();
  PassMonitor monitor(model, MonitorSet::all(), 100);
  // mix = H^T: the columns of `uneven` are the rows of H, (1, 0) and (1/4, 3/4).
  const auto even = at::full({2, 2}, 0.5, at::kDouble),
             uneven = at::tensor({1.0, 0.25, 0.0, 0.75}, at::kDouble).view({2, 2});
  monitor.begin(small_geometry());
  monitor.residual(0, even.expand({2, 4, 2, 2}));
  monitor.residual(0, uneven.expand({2, 4, 2, 2}));
  Tally tally;
  monitor.finish(tally);
  const double of_uneven = -(0.25 * std::log(0.25) + 0.75 * std::log(0.75)) / std::log(2.0) / 2;
  EXPECT_NEAR(value_of(tally, "residual_entropy"), (1 + of_uneven) / 2, 1e-12);
}

TEST(PassMonitorTest, CountsWhatTheClampCutsOff) {
  auto model = tiny_model();
  model.swiglu_limit = 10;
  PassMonitor monitor(model, MonitorSet::all(), 100);
  monitor.begin(small_geometry());
  auto gate = at::zeros({8, 5}, at::kDouble), up = at::zeros({8, 5}, at::kDouble);
  gate[0][0] = 11;    // clamped
  gate[0][1] = -50;   // not: silu makes it zero
  up[1][0] = -12;     // clamped
  gate[1][0] = 20;    // the same unit
  gate[2][2] = 10;    // just not
  gate[7].fill_(99);  // padding
  monitor.shared_expert(0, gate, up);
  // Two experts of F = 1, D = 1: gate = 3 x and 30 x.
  const auto x_TD = at::ones({8, 1}, at::kDouble);
  const auto experts_TK = at::tensor({2, 2, 2, 2, 3, 3, 1, 3}, at::kLong).view({8, 1});
  ExpertLinears experts;
  experts.w1 = ExpertLinear(at::tensor({3.0, 30.0}, at::kDouble).view({2, 1, 1}));
  experts.w3 = ExpertLinear(at::tensor({1.0, 1.0}, at::kDouble).view({2, 1, 1}));
  monitor.routed_experts(0, x_TD, experts_TK, experts, /*first_expert=*/2);
  Tally tally;
  monitor.finish(tally);
  EXPECT_NEAR(value_of(tally, "swiglu_clamped.shared"), 2.0 / 35, 1e-12);
  EXPECT_EQ(value_of(tally, "swiglu_max.shared"), 50);
  EXPECT_NEAR(value_of(tally, "swiglu_clamped.routed"), 2.0 / 6, 1e-12);  // expert 1 is elsewhere
  EXPECT_EQ(value_of(tally, "swiglu_max.routed"), 30);
}

TEST(PassMonitorTest, LooksAtSoManyTokensSpreadEvenly) {
  auto model = tiny_model();
  PassMonitor monitor(model, MonitorSet::of({Monitor::kSwiglu}), 3);
  monitor.begin(small_geometry());
  const auto token_T1 = at::arange(8, at::kDouble).unsqueeze(1);
  monitor.shared_expert(0, token_T1, at::zeros_like(token_T1));
  Tally tally;
  monitor.finish(tally);
  EXPECT_EQ(value_of(tally, "swiglu_max.shared"), 5);  // of tokens 1, 3 and 5, out of 0 to 6
}

TEST(IdleExpertsTest, CountStepsSinceTheLastToken) {
  auto model = tiny_model();
  model.num_hidden_layers = 1;
  model.compress_ratios = {0};
  model.num_nextn_predict_layers = 0;
  IdleExperts idle(model);
  const auto step = [&](const std::vector<double>& load) {
    idle.received({at::tensor(load, at::kDouble)});
  };
  step({1, 0, 2, 0});
  step({0, 0, 1, 0});
  EXPECT_EQ(idle.dead(0, 2), 2);
  EXPECT_EQ(idle.dead(0, 1), 3);
  step({0, 3, 0, 0});
  EXPECT_EQ(idle.dead(0, 2), 2);
  EXPECT_EQ(idle.dead(0, 3), 1);
}

class AlarmTest : public TinyRun {
 protected:
  /// Its learning rate is 0.001 in the first step and 0.002 in all others.
  RunConfig warmed_up(const std::string& name) const {
    auto run = config(name);
    run.schedule.kind = ScheduleKind::kConstant;
    return run;
  }
};

TEST_F(AlarmTest, StopsTheRunWithItsStateSaved) {
  auto run = warmed_up("run");
  run.stability.alarms = {
      {.metric = "learning_rate", .above = 0.0015, .reports = 2, .action = AlarmAction::kStop}};
  const auto stopped = train(run);
  EXPECT_EQ(stopped.end, TrainingEnd::kAlarm);
  expect_mentions(stopped.output,
                  {"alarm: learning_rate is 0.002 in step 3", "2 reports in a row"});
  EXPECT_EQ(newest_checkpoint(run).filename(), "step-00000003");
  EXPECT_EQ(train(run).end, TrainingEnd::kAlarm);  // and again two steps later
  EXPECT_EQ(newest_checkpoint(run).filename(), "step-00000005");
  run.stability.alarms = {};
  EXPECT_EQ(train(run).end, TrainingEnd::kFinished);
  auto whole = warmed_up("whole");
  whole.stability.alarms = {};
  train(whole);
  expect_same_run(run, whole);
}

TEST_F(AlarmTest, WarnsOnceWhileItLasts) {
  auto run = warmed_up("run");
  run.stability.alarms = {{.metric = "learning_rate", .above = 0.0015}};
  const auto first = train(run, 4), second = train(run);
  EXPECT_EQ(first.end, TrainingEnd::kInterrupted);
  EXPECT_NE(first.output.find("alarm: learning_rate is"), std::string::npos) << first.output;
  EXPECT_EQ(second.end, TrainingEnd::kFinished);
  EXPECT_EQ(second.output.find("alarm: learning_rate is"), std::string::npos) << second.output;
}

}  // namespace
}  // namespace braid
