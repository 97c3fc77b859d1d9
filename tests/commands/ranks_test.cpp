// Several ranks under mpirun: the same numbers as one, and an end for all when one fails.
#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <thread>

#include "checkpoint/history.h"
#include "core/random.h"
#include "tests/commands/cli_test.h"

namespace braid {
namespace {

using Strings = std::vector<std::string>;

class Ranks : public testing::CliTest {
 protected:
  /// A run in float64 with packed documents, MTP and the balance loss, its sums in fixed order.
  Strings command(const std::string& name, const Strings& settings = {}) const {
    Strings words = {"train", "run.yaml"};
    for (const std::string& setting : Strings{"run.name=" + name,
                                              "train.dtype=float64",
                                              "train.global_batch_size=8",
                                              "train.micro_batch_size=2",
                                              "train.max_steps=50",
                                              "train.validate_every_steps=25",
                                              "checkpoint.every_steps=20",
                                              "checkpoint.keep_last=2",
                                              "parallel.fixed_order=true",
                                              "parallel.compare_every_steps=10",
                                              "parallel.bucket_mib=1"}) {
      words.insert(words.end(), {"--set", setting});
    }
    for (const auto& setting : settings) {
      words.insert(words.end(), {"--set", setting});
    }
    return words;
  }

  void train_on(int ranks, const std::string& name, const Strings& settings = {}) const {
    const auto outcome = braid(command(name, settings), {.ranks = ranks});
    ASSERT_EQ(outcome.status, 0) << outcome.err << outcome.out;
  }

  /// Losses, norms and validation of every step within this relative distance; 0 = the same bits.
  void expect_same_numbers(const std::string& got, const std::string& want, double tolerance) {
    const auto a = testing::metrics_but_timings(config(got)),
               b = testing::metrics_but_timings(config(want));
    ASSERT_EQ(a.size(), b.size()) << got;
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (tolerance == 0) {
        ASSERT_EQ(a[i], b[i]) << got;
        continue;
      }
      for (const auto& [key, value] : b[i].items()) {
        if (value.is_number() && key != "step" && a[i].contains(key)) {
          const double x = a[i][key], y = value;
          ASSERT_LE(std::abs(x - y), tolerance * std::max(1e-3, std::abs(y)))
              << got << ", step " << b[i].at("step") << ", " << key;
        }
      }
    }
  }
};

struct Grid {
  int ranks;
  Strings settings;
  double tolerance;  // of experts and context: gradients are sums over tokens in another order
};

const std::vector<Grid> kGrids = {{2, {}, 0},
                                  {4, {"optimizer.zero_group=2"}, 0},
                                  {2, {"parallel.expert=2"}, 1e-9},
                                  {4, {"parallel.expert=4", "optimizer.zero_group=4"}, 1e-9},
                                  {4, {"parallel.expert=2", "optimizer.zero_group=4"}, 1e-9},
                                  {2, {"parallel.context=2"}, 1e-9},
                                  {4, {"parallel.context=4", "optimizer.zero_group=4"}, 1e-9},
                                  {4, {"parallel.context=2", "optimizer.zero_group=2"}, 1e-9},
                                  {4, {"parallel.context=2", "parallel.expert=2"}, 1e-9}};

TEST_F(Ranks, EveryGridTrainsToTheSameNumbers) {
  const Strings adamw = {"optimizer.groups=[{match: '*', optimizer: adamw}]"};
  for (const auto& optimizer : {Strings{}, adamw}) {
    const std::string kind = optimizer.empty() ? "muon" : "adamw";
    train_on(0, kind, optimizer);
    for (std::size_t i = 0; i < kGrids.size(); ++i) {
      auto settings = kGrids[i].settings;
      settings.insert(settings.end(), optimizer.begin(), optimizer.end());
      const auto name = text(kind, "-grid-", i);
      train_on(kGrids[i].ranks, name, settings);
      expect_same_numbers(name, kind, kGrids[i].tolerance);
    }
  }
}

// Every token is looked at. Of experts on several ranks each shows what its own tokens give to its
// own ones, so that not all of what SwiGLU clamps is seen.
TEST_F(Ranks, MonitorsSeeTheSameOnEveryGrid) {
  const Strings monitors = {"train.max_steps=6",
                            "train.micro_batch_size=8",
                            "logging.monitor_every_steps=2",
                            "logging.monitor_tokens=100000",
                            "logging.dead_after_steps=2"};
  const std::string without_swiglu =
      "logging.monitors=[updates, weights, attention, experts, residual, mtp]";
  train_on(0, "whole", monitors);
  const std::vector<std::pair<int, Strings>> grids = {
      {2, {}},
      {2, {"parallel.context=2"}},
      {2, {"parallel.expert=2", without_swiglu}},
      {4, {"parallel.context=2", "parallel.expert=2", "optimizer.zero_group=2", without_swiglu}}};
  for (std::size_t i = 0; i < grids.size(); ++i) {
    auto settings = monitors;
    settings.insert(settings.end(), grids[i].second.begin(), grids[i].second.end());
    const auto name = text("grid-", i);
    train_on(grids[i].first, name, settings);
    EXPECT_TRUE(testing::metrics_of_step(config(name), 4).contains("orthogonality_error"));
    expect_same_numbers(name, "whole", 1e-9);
  }
}

TEST_F(Ranks, AnAlarmStopsAllOfThem) {
  const auto outcome = braid(
      command("run", {"stability.alarms=[{metric: learning_rate, above: 0.0015, action: stop}]"}),
      {.ranks = 2});
  EXPECT_EQ(outcome.status, 3) << outcome.err << outcome.out;
  testing::expect_mentions(outcome.out, {"alarm: learning_rate is 0.002 in step 2", "saved"});
  EXPECT_EQ(testing::newest_checkpoint(config("run")).filename(), "step-00000002");
}

// Dense attention, the indexers alone, then everything; what is not kept is exchanged again.
TEST_F(Ranks, GenerateTheSamplesOfOneRank) {
  const auto samples = [this](const std::string& name, int ranks, Strings settings) {
    settings.insert(settings.end(),
                    {"train.max_steps=4",
                     "train.validate_every_steps=2",
                     "logging.samples.count=2",
                     "logging.samples.prompts=[\"the \", \"\"]",
                     "logging.samples.max_tokens=8"});
    train_on(ranks, name, settings);
    auto records = testing::metrics_but_timings(config(name));
    std::erase_if(records,
                  [](const auto& record) { return record.value("split", "") != "sample"; });
    return records;
  };
  const auto one = samples("one", 0, {});
  EXPECT_EQ(one.size(), 8u);
  EXPECT_EQ(samples("data", 2, {}), one);
  EXPECT_EQ(samples("expert", 2, {"parallel.expert=2"}), one);
}

TEST_F(Ranks, IndexersLearnTheSameWhereSequencesAreDivided) {
  const Strings regimes = {"loss.indexer_mode=sparse",
                           "schedule.dense_steps=15",
                           "schedule.indexer_warmup_steps=15",
                           "train.recompute_sublayers=3"};
  train_on(0, "whole", regimes);
  for (const int ranks : {2, 4}) {
    auto settings = regimes;
    settings.push_back(text("parallel.context=", ranks));
    const auto name = text("context-", ranks);
    train_on(ranks, name, settings);
    expect_same_numbers(name, "whole", 1e-9);
  }
}

// What an expert received, and which parameters have a gradient, are facts of all ranks.
TEST_F(Ranks, DampedExpertsAndAbsentGradientsAreTheSameOnEveryGrid) {
  const std::vector<Strings> kinds = {
      {"train.max_steps=12", "optimizer.muon.idle_expert_damping=true"},
      {"train.max_steps=12", "model.num_experts_per_tok=1", "loss.balance_weight=0"}};
  for (std::size_t k = 0; k < kinds.size(); ++k) {
    const auto whole = text("whole-", k);
    train_on(0, whole, kinds[k]);
    for (const auto& grid : {Grid{2, {}, 0}, Grid{2, {"parallel.expert=2"}, 1e-9}}) {
      auto settings = kinds[k];
      settings.insert(settings.end(), grid.settings.begin(), grid.settings.end());
      const auto name = text("kind-", k, "-", grid.settings.size());
      train_on(grid.ranks, name, settings);
      expect_same_numbers(name, whole, grid.tolerance);
    }
  }
}

// What waits was chosen by other ranks, which had other tokens.
TEST_F(Ranks, AnticipatoryRoutingIsTheSameOnEveryGridAndContinuesOnAnother) {
  const auto with = [](const Strings& more) {
    Strings settings = {"model.routing_mode=anticipatory",
                        "model.routing_delay=3",
                        "train.max_steps=12",
                        "train.validate_every_steps=6"};
    settings.insert(settings.end(), more.begin(), more.end());
    return settings;
  };
  train_on(0, "whole", with({}));
  const std::vector<Grid> grids = {
      {2, {}, 0}, {2, {"parallel.context=2"}, 1e-9}, {2, {"parallel.expert=2"}, 1e-9}};
  for (std::size_t i = 0; i < grids.size(); ++i) {
    const auto& [ranks, settings, tolerance] = grids[i];
    train_on(ranks, text("grid-", i), with(settings));
    expect_same_numbers(text("grid-", i), "whole", tolerance);
    const auto name = text("journey-", i);
    auto first = command(name, with(settings));
    first.insert(first.end(), {"--stop-at-step", "7"});
    ASSERT_EQ(braid(first, {.ranks = ranks}).status, 0);
    const auto second = braid(command(name, with({})), {.ranks = i == 0 ? 4 : 0});
    ASSERT_EQ(second.status, 0) << second.err;
    EXPECT_EQ(second.out.find("chosen anew"), std::string::npos) << second.out;
    expect_same_numbers(name, "whole", tolerance);
  }
}

TEST_F(Ranks, ARunContinuesOnAnyOtherGrid) {
  train_on(0, "whole");
  struct Stage {
    int ranks, until;
    Strings settings;
  };
  const std::vector<std::vector<Stage>> journeys = {
      {{0, 13, {}}, {4, 31, {"optimizer.zero_group=4"}}, {2, 50, {"optimizer.zero_group=2"}}},
      {{2, 17, {"parallel.expert=2"}},
       {4, 33, {"parallel.expert=4", "optimizer.zero_group=2"}},
       {0, 50, {}}},
      {{4, 24, {"parallel.expert=2", "optimizer.zero_group=4"}}, {2, 50, {}}},
      {{0, 16, {}}, {2, 31, {"parallel.context=2"}}, {4, 50, {"parallel.context=4"}}}};
  for (std::size_t j = 0; j < journeys.size(); ++j) {
    const auto name = text("journey-", j);
    for (const auto& [ranks, until, settings] : journeys[j]) {
      // The schedule is the whole run's: stopped as a scheduler stops it.
      auto command_line = command(name, settings);
      command_line.insert(command_line.end(), {"--stop-at-step", std::to_string(until)});
      const auto outcome = braid(command_line, {.ranks = ranks});
      ASSERT_EQ(outcome.status, 0) << outcome.err;
    }
    expect_same_numbers(name, "whole", j == 0 ? 0 : 1e-9);
  }
}

// Some of their weights are scalars, of which an index has the value itself.
TEST_F(Ranks, HyperConnectionsAreSavedByTwoRanksAndContinueOnOne) {
  const Strings settings = {"model.residual=hc",
                            "train.max_steps=6",
                            "train.validate_every_steps=3",
                            "checkpoint.every_steps=3"};
  train_on(0, "alone", settings);
  auto until_three = command("moved", settings);
  until_three.insert(until_three.end(), {"--stop-at-step", "3"});
  const auto outcome = braid(until_three, {.ranks = 2});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  train_on(0, "moved", settings);
  expect_same_numbers("moved", "alone", 0);
}

// Experts and the embedding stay in the base, whichever rank would hold and write them.
TEST_F(Ranks, FrozenWeightsStayInTheirBaseOnEveryGrid) {
  train_on(0, "base");
  const auto converted = braid({"convert", "runs/base", "base.checkpoint", "--to", "checkpoint"});
  ASSERT_EQ(converted.status, 0) << converted.err;
  const Strings frozen = {
      "run.init_from=base.checkpoint",
      "optimizer.groups=[{match: '*ffn.experts.*', optimizer: none}, {match: embed.weight, "
      "optimizer: none}]"};
  train_on(0, "whole", frozen);
  const std::vector<std::pair<int, Strings>> grids = {
      {2, {}}, {2, {"parallel.expert=2"}}, {4, {"parallel.expert=2", "parallel.context=2"}}};
  for (std::size_t i = 0; i < grids.size(); ++i) {
    const auto& [ranks, grid] = grids[i];
    auto settings = frozen;
    settings.insert(settings.end(), grid.begin(), grid.end());
    const auto name = text("grid-", i);
    auto command_line = command(name, settings);
    command_line.insert(command_line.end(), {"--stop-at-step", "30"});
    auto outcome = braid(command_line, {.ranks = ranks});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    for (const auto& tensor : load_checkpoint(testing::newest_checkpoint(config(name))).tensors) {
      EXPECT_EQ(tensor.name.find(".experts."), std::string::npos) << tensor.name;
      EXPECT_NE(tensor.name, "model/embed.weight");
    }
    train_on(i == 0 ? 0 : 2, name, frozen);  // on another grid
    expect_same_numbers(name, "whole", grid.empty() ? 0 : 1e-9);
    outcome = braid({"evaluate", "runs/" + name, "--data", "corpus.txt"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
  }
}

// Adapters of experts live with their experts; every factor is a tensor of its own, whoever owns
// it.
TEST_F(Ranks, AdaptersLearnTheSameOnEveryGridAndContinueOnOne) {
  train_on(0, "base", {"train.max_steps=4"});
  const auto converted = braid({"convert", "runs/base", "base.checkpoint", "--to", "checkpoint"});
  ASSERT_EQ(converted.status, 0) << converted.err;
  const Strings lora = {"run.init_from=base.checkpoint",
                        "train.parameters=lora",
                        "train.max_steps=20",
                        "adapter.rank=4",
                        "adapter.targets=all",
                        "optimizer.learning_rate=0.01"};
  train_on(0, "whole", lora);
  const std::vector<std::pair<int, Strings>> grids = {
      {2, {}},
      {2, {"parallel.expert=2", "parallel.expert_waves=2"}},
      {4, {"parallel.expert=2", "parallel.context=2"}}};
  for (std::size_t i = 0; i < grids.size(); ++i) {
    const auto& [ranks, grid] = grids[i];
    auto settings = lora;
    settings.insert(settings.end(), grid.begin(), grid.end());
    const auto name = text("lora-", i);
    auto command_line = command(name, settings);
    command_line.insert(command_line.end(), {"--stop-at-step", "10"});
    const auto outcome = braid(command_line, {.ranks = ranks});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    train_on(0, name, lora);  // goes on as one process
    expect_same_numbers(name, "whole", grid.empty() ? 0 : 1e-9);
  }
}

TEST_F(Ranks, CheckpointsOfSeveralRanksAreWholeForEveryCommand) {
  train_on(4, "run", {"parallel.expert=2", "optimizer.zero_group=4", "train.max_steps=5"});
  const auto run = config("run").run_dir().string();
  const auto verified = braid({"inspect", run, "--verify"});
  EXPECT_EQ(verified.status, 0) << verified.out << verified.err;
  const auto evaluated = braid({"evaluate", run, "--data", "corpus.txt"});
  EXPECT_EQ(evaluated.status, 0) << evaluated.err;
  const auto folder = testing::newest_checkpoint(config("run"));
  EXPECT_TRUE(std::filesystem::exists(folder / "shard-00003-of-00004.h5"));
  std::filesystem::remove(folder / "shard-00002-of-00004.h5");
  testing::expect_error(braid({"evaluate", folder.string(), "--data", "corpus.txt"}),
                        {"shard-00002-of-00004.h5", "is missing"});
}

TEST_F(Ranks, OneKilledRankEndsAllAndTheRunContinues) {
  train_on(0, "whole");
  for (uint64_t kill = 0; kill < 4; ++kill) {
    testing::Program program(folder_, command("run", {"checkpoint.every_steps=3"}), {.ranks = 2});
    program.wait_for("memory at");
    std::this_thread::sleep_for(
        std::chrono::milliseconds(random_bits(random_key(kill, "kill"), 0) % 300));
    program.send_to_rank(static_cast<int>(kill % 2), SIGKILL);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_NE(program.finish().status, 0);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  }
  train_on(2, "run", {"checkpoint.every_steps=3"});
  expect_same_numbers("run", "whole", 0);
}

/// Status, and that rank 1's message comes before any other rank's; the launcher may print before
/// it.
void expect_failure_of_rank_1(const testing::Outcome& outcome, const Strings& parts) {
  EXPECT_NE(outcome.status, 0);
  const auto first = outcome.err.find("braid: ");
  ASSERT_NE(first, std::string::npos) << outcome.err;
  EXPECT_TRUE(outcome.err.substr(first).starts_with("braid: rank 1: ")) << outcome.err;
  EXPECT_EQ(outcome.err.find("braid: rank 0: "), std::string::npos) << outcome.err;
  testing::expect_mentions(outcome.err, parts);
}

TEST_F(Ranks, AnErrorOfOneRankEndsAllAfterItsMessage) {
  // One that cannot begin.
  expect_failure_of_rank_1(
      braid(command("run"), {.ranks = 2, .more_of_last_rank = {"--resume", "nowhere"}}),
      {"--resume nowhere: no such folder"});
  // One that cannot write its shard any more.
  testing::Program program(
      folder_, command("run", {"checkpoint.every_steps=3", "train.max_steps=10000"}), {.ranks = 2});
  program.wait_for("| saved ");
  program.limit_files_of_rank(1, 1000);
  const auto start = std::chrono::steady_clock::now();
  expect_failure_of_rank_1(program.finish(),
                           {"cannot save the checkpoint", "shard-00001-of-00002", "too large"});
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  const auto earlier = newest_complete_checkpoint(config("run").run_dir() / "checkpoints");
  ASSERT_TRUE(earlier);
  EXPECT_EQ(braid({"inspect", earlier->string(), "--verify"}).status, 0);
}

TEST_F(Ranks, ACrashOfOneRankEndsAll) {
  for (const int signal : {SIGSEGV, SIGABRT}) {
    testing::Program program(folder_, command("run", {"train.max_steps=10000"}), {.ranks = 2});
    program.wait_for("memory at");
    program.send_to_rank(1, signal);
    const auto start = std::chrono::steady_clock::now();
    const auto outcome = program.finish();
    EXPECT_NE(outcome.status, 0);
    testing::expect_mentions(outcome.err, {"process rank 1", text("signal ", signal)});
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  }
}

TEST_F(Ranks, OtherSettingsOnOneRankAreRefused) {
  const auto outcome =
      braid(command("run"), {.ranks = 2, .more_of_last_rank = {"--set", "train.max_steps=51"}});
  EXPECT_NE(outcome.status, 0);
  testing::expect_mentions(outcome.err,
                           {"braid: rank 0: rank 1 was started with other settings than rank 0: ",
                            "max_steps: 51",
                            "max_steps: 50"});
}

TEST_F(Ranks, AStuckRankIsNamedAndEndsTheRun) {
  testing::Program program(
      folder_,
      command(
          "run",
          {"parallel.timeout_seconds=1", "train.max_steps=100000", "train.global_batch_size=6"}),
      {.ranks = 3});
  program.wait_for("memory at");
  program.send_to_rank(2, SIGSTOP);
  const auto outcome = program.finish();
  EXPECT_NE(outcome.status, 0);
  testing::expect_mentions(outcome.err,
                           {"braid: rank 0: step ",
                            "other ranks have not come for 1 s",
                            "rank 2: does not answer",
                            "rank 1: step "});
  EXPECT_TRUE(std::filesystem::exists(config("run").run_dir() / "error-rank-0.txt"));
}

TEST_F(Ranks, SigUsr1ToMpirunSavesAndStops) {
  train_on(0, "whole");
  testing::Program program(folder_, command("run"), {.ranks = 2});
  program.wait_for("memory at");
  program.send(SIGUSR1);
  const auto outcome = program.finish();
  EXPECT_EQ(outcome.status, 128 + SIGUSR1) << outcome.err;
  testing::expect_mentions(outcome.out, {"| saved ", "the same command continues"});
  train_on(2, "run");
  expect_same_numbers("run", "whole", 0);
}

TEST_F(Ranks, CtrlCAgainToTheScriptEndsAtOnceAndSaysSo) {
  testing::Program program(
      folder_,
      command("run", {"train.max_steps=100000", "checkpoint.every_steps=100000"}),
      {.ranks = 2, .by_script = true});
  program.wait_for("memory at");
  program.send_to_rank(1, SIGSTOP);  // so that the step cannot end and be saved before the second
  program.send(SIGINT);
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  program.send(SIGINT);
  const auto outcome = program.finish();
  EXPECT_EQ(outcome.status, 128 + SIGINT);
  testing::expect_mentions(outcome.err, {"again = at once, without saving", "ending at once"});
  EXPECT_FALSE(newest_complete_checkpoint(config("run").run_dir() / "checkpoints"));
}

TEST_F(Ranks, ASignalWhileTheDataIsPreparedStopsAllRanks) {
  std::string large;
  while (large.size() < 60'000'000) {
    large.append(1000, static_cast<char>('a' + large.size() % 26)).append("\n%\n");
  }
  write("large.txt", large);
  testing::Program program(folder_, command("run", {"data.train=[large.txt]"}), {.ranks = 2});
  const auto growing = config("run").run_dir() / "data/train.tokens.braid.tmp";
  for (int i = 0; i < 20'000 && !std::filesystem::exists(growing); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  program.send(SIGUSR1);
  const auto outcome = program.finish();
  EXPECT_EQ(outcome.status, 128 + SIGUSR1) << outcome.err;
  testing::expect_mentions(outcome.err, {"braid: stopped by SIGUSR1"});
}

TEST_F(Ranks, CtrlCToTheScriptSavesAndStops) {
  train_on(0, "whole");
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    testing::Program program(folder_, command("run"), {.ranks = 2, .by_script = true});
    program.wait_for("memory at");
    program.send(signal);
    program.send(signal);  // at once: the same request
    const auto outcome = program.finish();
    EXPECT_EQ(outcome.status, 128 + signal) << outcome.err;
    testing::expect_mentions(outcome.err, {"each rank finishes its step and saves"});
    testing::expect_mentions(outcome.out, {"| saved ", "the same command continues"});
  }
  train_on(2, "run");
  expect_same_numbers("run", "whole", 0);
}

// Each sequence is a piece of one document, as the plan assumes.
TEST_F(Ranks, SendTheBytesThatThePlanSays) {
  std::string long_document;
  for (int i = 0; i < 2000; ++i) {
    long_document += text(i, " and ");
  }
  write("long.txt", long_document);
  const std::vector<std::pair<int, Strings>> grids = {
      {2, {"parallel.context=2"}},
      {2, {"parallel.context=2", "loss.indexer_mode=sparse", "train.recompute_sublayers=2"}},
      {2, {"parallel.expert=2"}}};
  for (std::size_t i = 0; i < grids.size(); ++i) {
    const auto& [ranks, more] = grids[i];
    auto settings = more;
    settings.insert(settings.end(),
                    {"data.train=[long.txt]",
                     "data.validation_fraction=0",
                     "data.seq_len=64",
                     "loss.balance_weight=0.01",
                     "train.max_steps=2"});
    const auto name = text("grid-", i);
    train_on(ranks, name, settings);
    auto plan_words = command(name, settings);
    plan_words[0] = "plan";
    plan_words.insert(plan_words.end(), {"--ranks", std::to_string(ranks), "--json"});
    const auto planned = braid(plan_words);
    ASSERT_EQ(planned.status, 0) << planned.err;
    const auto plan = nlohmann::json::parse(planned.out).at("of_a_step_on_the_busiest_rank");
    std::ifstream file(config(name).run_dir() / "metrics.jsonl");
    std::string first_step;
    std::getline(file, first_step);
    const auto metrics = nlohmann::json::parse(first_step);
    EXPECT_EQ(metrics.at("sent_bytes.context"), plan.at("context_exchange_sent_bytes")) << name;
    const double updates =
        plan.at("gradients_sent_bytes").get<double>() + plan.at("weights_sent_bytes").get<double>();
    EXPECT_NEAR(metrics.at("sent_bytes.updates").get<double>(), updates, 0.1 * updates) << name;
    // Routing is even only nearly.
    const double experts = plan.at("expert_exchange_sent_bytes");
    EXPECT_NEAR(metrics.at("sent_bytes.experts").get<double>(), experts, 0.3 * experts) << name;
  }
}

// Said once, whoever finds it.
TEST_F(Ranks, GridsThatCannotBeAreRefusedWithTheChoices) {
  const std::vector<std::pair<Strings, Strings>> cases = {
      {{"parallel.expert=3"}, {"parallel.expert", "possible here: 1, 2"}},
      {{"parallel.context=4"}, {"parallel.context", "possible here: 1, 2"}},
      {{"parallel.context=2", "data.seq_len=31"}, {"data.seq_len", "31 tokens", "30, 32"}},
      {{"optimizer.zero_group=4"}, {"optimizer.zero_group", "does not divide 2 ranks"}},
      {{"train.global_batch_size=7", "train.micro_batch_size=1"},
       {"train.global_batch_size", "2 data-parallel ranks", "6, 8"}}};
  for (const auto& [settings, parts] : cases) {
    const auto outcome = braid(command("run", settings), {.ranks = 2});
    EXPECT_NE(outcome.status, 0);
    testing::expect_mentions(outcome.err, parts);
    const auto first = outcome.err.find("braid: ");
    EXPECT_EQ(outcome.err.find("braid: ", first + 1), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace braid
