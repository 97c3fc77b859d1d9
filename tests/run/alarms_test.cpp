#include "run/alarms.h"

#include <cmath>
#include <limits>

#include "run/metric_keys.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;
using AlarmConfigTest = TinyRun;

TEST(AlarmsTest, TellWhenTheyBeginAndWhenTheyEnd) {
  Alarms alarms({{.metric = "loss", .above = 3}});
  EXPECT_TRUE(alarms.hear(1, {{"loss", 3.0}}).lines.empty());
  const auto begins = alarms.hear(2, {{"loss", 3.5}});
  ASSERT_EQ(begins.lines.size(), 1u);
  EXPECT_EQ(begins.lines[0], "alarm: loss is 3.5 in step 2, above 3");
  EXPECT_FALSE(begins.stops);
  EXPECT_TRUE(alarms.hear(3, {{"loss", 4.0}}).lines.empty());
  EXPECT_TRUE(alarms.hear(4, {{"tokens", 1.0}}).lines.empty());  // not reported
  const auto ends = alarms.hear(5, {{"loss", 2.0}});
  ASSERT_EQ(ends.lines.size(), 1u);
  EXPECT_EQ(ends.lines[0], "alarm over: loss is 2 in step 5, no longer above 3");
}

TEST(AlarmsTest, WaitForSoManyReportsInARow) {
  Alarms alarms({{.metric = "loss", .below = 1, .reports = 3, .action = AlarmAction::kStop}});
  const std::vector<double> losses = {0.5, 0.5, 2, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
  std::vector<int64_t> stops;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    if (alarms.hear(static_cast<int64_t>(i), {{"loss", losses[i]}}).stops) {
      stops.push_back(static_cast<int64_t>(i));
    }
  }
  EXPECT_EQ(stops, (std::vector<int64_t>{5, 8}));  // a run that goes on is stopped again
}

TEST(AlarmsTest, OneOfAMetricHearsEveryKeyThatBeginsWithIt) {
  Alarms alarms({{.metric = "expert_dead", .above = 0}});
  const auto heard =
      alarms.hear(100, {{"expert_dead.1", 0.0}, {"expert_dead.2", 3.0}, {"expert_deadline", 9.0}});
  ASSERT_EQ(heard.lines.size(), 1u);
  expect_mentions(heard.lines[0], {"expert_dead.2 is 3"});
}

TEST(AlarmsTest, NotANumberIsBeyondEveryThreshold) {
  for (const double value : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    Alarms alarms({{.metric = "loss", .above = 3}});
    EXPECT_EQ(alarms.hear(1, {{"loss", value}}).lines.size(), 1u);
  }
  Alarms below({{.metric = "loss", .below = 3}});
  EXPECT_EQ(below.hear(1, {{"loss", std::nan("")}}).lines.size(), 1u);
}

TEST(AlarmsTest, ContinueTheirCountFromAState) {
  const std::vector<AlarmRule> rules = {{.metric = "loss", .above = 3, .reports = 2}};
  Alarms before(rules), after(rules), changed({{.metric = "loss", .above = 4, .reports = 2}});
  before.hear(1, {{"loss", 5.0}});
  after.restore(before.state());
  EXPECT_EQ(after.hear(2, {{"loss", 5.0}}).lines.size(), 1u);
  changed.restore(before.state());  // of another threshold
  EXPECT_TRUE(changed.state().counts.empty());
}

TEST_F(AlarmConfigTest, AreReadStrictly) {
  const auto message = [&](const std::string& alarms) {
    const auto file = write("run.yaml", dump_config(config("run")));
    return error_of([&] { load_run_config(file, {"stability.alarms=" + alarms}); });
  };
  expect_mentions(message("[{metric: attention_logit_maks, above: 100}]"),
                  {"stability.alarms[0].metric", "did you mean 'attention_logit_max'?"});
  expect_mentions(message("[{metric: gradient_norm.expert, above: 1}]"),
                  {"did you mean 'gradient_norm.experts'?"});
  expect_mentions(message("[{metric: loss}]"), {"has no threshold"});
  expect_mentions(message("[{above: 1}]"), {"metric"});
  expect_mentions(message("[{metric: loss, over: 1}]"), {"unknown key"});
  expect_mentions(message("[{metric: loss, above: 1, action: halt}]"),
                  {"expected one of warn, stop"});
  expect_mentions(message("[{metric: loss, above: 1, for: 0}]"), {"for", ">= 1"});
}

TEST_F(AlarmConfigTest, OnWhatIsNotMeasuredAreAnErrorUnlessTheyAreTheDefault) {
  auto run = config("run");
  run.logging.monitors = {};
  EXPECT_NO_THROW(run.validate());
  run.stability.alarms = {{.metric = "attention_logit_max.csa", .above = 50}};
  expect_mentions(error_of([&] { run.validate(); }),
                  {"stability.alarms[0].metric", "monitor attention", "logging.monitors"});
  run.logging.monitors = MonitorSet::of({Monitor::kAttention});
  EXPECT_NO_THROW(run.validate());
}

TEST_F(AlarmConfigTest, MonitorsAreAllNoneOrAList) {
  const auto file = write("run.yaml", dump_config(config("run")));
  const auto of = [&](const std::string& value) {
    return load_run_config(file, {"logging.monitors=" + value}).logging.monitors;
  };
  EXPECT_EQ(of("all"), MonitorSet::all());
  EXPECT_TRUE(of("none").empty());
  EXPECT_EQ(of("[experts, swiglu]"), MonitorSet::of({Monitor::kExperts, Monitor::kSwiglu}));
  expect_mentions(error_of([&] { of("[expert]"); }), {"expected one of updates, weights"});
  expect_mentions(error_of([&] { of("some"); }), {"expected one of all, none"});
  for (const auto* value : {"all", "none", "[experts, swiglu]"}) {
    const auto loaded = load_run_config(file, {std::string("logging.monitors=") + value});
    const auto again = write("again.yaml", dump_config(loaded));
    EXPECT_EQ(dump_config(load_run_config(again, {})), dump_config(loaded));
  }
}

}  // namespace
}  // namespace braid
