// Experts that are chosen some steps before their batch is learned from: nothing changes where the
// weights have not moved meanwhile, and a run that stops knows what it had chosen.
#include "core/file.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

class AnticipatoryRouting : public TinyRun {
 protected:
  RunConfig ahead(const std::string& name, int64_t delay) const {
    auto run = config(name);
    run.model.routing_mode = RoutingMode::kAnticipatory;
    run.model.routing_delay = delay;
    return run;
  }

  /// Weights that no float of them shows to have moved.
  static RunConfig frozen(RunConfig run) {
    run.optimizer.learning_rate = 1e-30;
    run.loss.bias_update_speed = 0;
    return run;
  }

  static std::vector<nlohmann::json> metrics_but_delay(const RunConfig& run) {
    auto records = metrics_but_timings(run);
    for (auto& record : records) {
      record.erase("routing_delay");
    }
    return records;
  }

  static bool same_weights(const RunConfig& a, const RunConfig& b) {
    const auto checkpoint_a = load_checkpoint(newest_checkpoint(a)),
               checkpoint_b = load_checkpoint(newest_checkpoint(b));
    const auto value_in = [](const Checkpoint& checkpoint, const std::string& name) {
      for (const auto& tensor : checkpoint.tensors) {
        if (tensor.name == name) {
          return tensor.value;
        }
      }
      return at::Tensor();
    };
    return std::ranges::all_of(checkpoint_a.tensors, [&](const NamedTensor& tensor) {
      const bool is_weight = !tensor.name.starts_with("look_ahead/");
      return !is_weight || tensor.value.equal(value_in(checkpoint_b, tensor.name));
    });
  }

  /// As if the run had been far ahead at its newest checkpoint: its losses are a spike from there.
  static void make_spike(const RunConfig& run) {
    const auto path = newest_checkpoint(run);
    auto checkpoint = load_checkpoint(path);
    checkpoint.state["loss_steps"] = int64_t{1000};
    checkpoint.state["loss_mean"] = 0.1;
    checkpoint.state["loss_variance"] = 1e-4;
    save_checkpoint(path, checkpoint, {{"config.yaml", read_file(path / "config.yaml")}});
  }

  static std::vector<int64_t> steps_ahead(const RunConfig& run) {
    std::vector<int64_t> steps;
    for (const auto& record : metrics_but_timings(run)) {
      if (record.contains("routing_delay")) {
        steps.push_back(record.at("step"));
      }
    }
    return steps;
  }
};

TEST_F(AnticipatoryRouting, OffsetZeroIsTheStandardPathBitForBit) {
  for (const auto recompute : {std::optional<int64_t>(), std::optional<int64_t>(1)}) {
    auto standard = config(recompute ? "standard-again" : "standard"),
         zero = ahead(recompute ? "zero-again" : "zero", 0);
    standard.train.recompute_sublayers = zero.train.recompute_sublayers = recompute;
    train(standard);
    train(zero);
    EXPECT_EQ(metrics_but_delay(zero), metrics_but_timings(standard));
    EXPECT_TRUE(same_weights(zero, standard));
    EXPECT_EQ(steps_ahead(zero), (std::vector<int64_t>{1, 2, 3, 4, 5, 6}));
  }
}

TEST_F(AnticipatoryRouting, WithFrozenWeightsAnyOffsetIsTheStandardPath) {
  const auto standard = frozen(config("standard"));
  train(standard);
  for (const int64_t delay : {1, 3, 10}) {
    const auto run = frozen(ahead(text("ahead-", delay), delay));
    train(run);
    EXPECT_EQ(metrics_but_delay(run), metrics_but_timings(standard)) << "delay " << delay;
    EXPECT_TRUE(same_weights(run, standard)) << "delay " << delay;
  }
}

TEST_F(AnticipatoryRouting, WithMovingWeightsTheOffsetCounts) {
  auto one = ahead("one", 1), three = ahead("three", 3);
  for (auto* run : {&one, &three}) {
    run->train.max_steps = 12;
    run->optimizer.learning_rate = 0.05;
    run->loss.bias_update_speed = 0.1;
    train(*run);
  }
  EXPECT_FALSE(same_weights(one, three));
  // Until the first step that was chosen for later than at the start, both use the same experts.
  EXPECT_EQ(metrics_of_step(one, 1), [&] {
    auto record = metrics_of_step(three, 1);
    record["routing_delay"] = 1;
    return record;
  }());
}

TEST_F(AnticipatoryRouting, StoppingAfterAnyStepChangesNoBit) {
  const auto whole = ahead("whole", 2);
  train(whole);
  for (int64_t stop = 0; stop < whole.train.max_steps; ++stop) {
    SCOPED_TRACE(text("stopped after step ", stop));
    const auto stopped = ahead(text("stopped-", stop), 2);
    train(stopped, stop);
    const auto output = train(stopped).output;
    EXPECT_EQ(output.find("chosen anew"), std::string::npos) << output;
    expect_same_run(stopped, whole);
  }
}

TEST_F(AnticipatoryRouting, AnotherOffsetChoosesAnewAndNoSampleIsLost) {
  const auto run = frozen(ahead("run", 2));
  const auto standard = frozen(config("standard"));
  train(standard);
  train(run, 3);
  auto other = run;
  other.model.routing_delay = 4;
  expect_mentions(train(other).output, {"routing_delay) are chosen anew"});
  EXPECT_EQ(metrics_but_delay(other), metrics_but_timings(standard));

  auto off = frozen(ahead("off", 2));
  train(off, 3);
  off.model.routing_mode = RoutingMode::kSync;
  train(off);
  EXPECT_EQ(metrics_but_delay(off), metrics_but_timings(standard));
  EXPECT_EQ(steps_ahead(off), (std::vector<int64_t>{1, 2, 3}));
}

TEST_F(AnticipatoryRouting, ASpikeTurnsItOnForAWhileAndARunContinuesInBetween) {
  const auto prepared = [&](const std::string& name) {
    auto run = config(name);
    run.train.max_steps = 12;
    run.train.validate_every_steps = 0;
    run.model.routing_delay = 2;
    run.stability.spike_action = SpikeAction::kAnticipate;
    run.stability.spike_patience = 2;
    run.stability.spike_rise = 1e-3;
    run.stability.anticipatory_steps = 4;
    run.checkpoint = {.every_steps = 1, .keep_last = 20};
    train(run, 3);
    make_spike(run);
    return run;
  };
  // Steps 4 and 5 spike; the run goes back to step 3, as step 4 has no checkpoint: it spiked.
  auto run = prepared("run");
  const auto output = train(run, 2).output;
  expect_mentions(output,
                  {"spikes above its running mean", "anticipatory routing, delay 2, for 4 steps"});
  // From here on the losses are what is expected.
  const auto settle = [](RunConfig settled) {
    settled.stability.spike_action = SpikeAction::kOff;
    return settled;
  };
  run = settle(run);
  auto stopped = prepared("stopped");
  train(stopped, 2);
  stopped = settle(stopped);
  expect_mentions(train(run).output, {"anticipatory routing ends"});
  for (int step = 0; step < 10; ++step) {
    train(stopped, 1);
  }
  expect_same_run(stopped, run);
  const auto steps = steps_ahead(run);
  ASSERT_EQ(steps.size(), 4u);
  EXPECT_EQ(steps.back() - steps.front(), 3);
}

}  // namespace
}  // namespace braid
