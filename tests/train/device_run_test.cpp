// Whole runs on a device whose memory the CPU cannot touch (tests/support/strict_device.h), with
// the CPU's numbers: training, saving, continuing, and what is done with a model afterwards.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>

#include <ATen/ATen.h>

#include "formats/base_sizes.h"
#include "formats/open_model.h"
#include "inference/chat_session.h"
#include "inference/evaluate.h"
#include "inference/generate.h"
#include "inference/probe.h"
#include "plan/plan.h"
#include "run/memory.h"
#include "tests/formats/quantized_base.h"
#include "tests/support/compare.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/strict_device.h"

namespace braid {
namespace {

using namespace testing;

// In float64; gradients and losses differ in the last bits, and AdamW makes steps of full size of
// gradients that are almost nothing.
constexpr RunTolerance kClose{.metrics = 1e-6, .tensors = 1e-6};

constexpr int64_t kToTheEnd = std::numeric_limits<int64_t>::max();

Trained train_on_device(const RunConfig& run, int64_t steps = kToTheEnd) {
  return train(run, steps, {}, strict_device());
}

RunConfig named(RunConfig run, const std::string& name) {
  run.run.name = name;
  return run;
}

class DeviceRun : public QuantizedBase {
 protected:
  /// Three steps with Muon and AdamW and all kinds of layers, and a validation.
  RunConfig plain(const std::string& name) const {
    auto run = config(name);
    run.train.dtype = ComputeType::kFloat64;
    run.train.max_steps = 3;
    run.train.micro_batch_size = run.train.global_batch_size;
    run.train.validate_every_steps = 0;
    run.schedule.warmup_steps = 0;
    run.checkpoint.every_steps = 0;
    return run;
  }

  /// The same with every loss, its stages one step each, every monitor in every step, rounded
  /// experts and indexers, activations that are computed again, and a text at the end.
  RunConfig everything(const std::string& name) const {
    auto run = plain(name);
    run.model.hidden_size = run.model.moe_intermediate_size = run.model.index_head_dim = 32;
    run.model.qat_experts = run.model.qat_indexer = QuantFormat::kFp4;
    run.train.recompute_sublayers = 2;
    run.schedule.dense_steps = 1;
    run.schedule.indexer_warmup_steps = 1;
    run.loss.indexer_mode = IndexerMode::kSparse;
    run.loss.balance_weight = 0.1;
    run.logging.monitor_every_steps = 1;
    run.logging.samples.count = 1;
    run.logging.samples.max_tokens = 4;
    run.optimizer.muon.idle_expert_damping = true;
    run.checkpoint.keep_best = 1;
    return run;
  }

  RunConfig short_run_of_adapters(const std::string& name,
                                  const std::vector<std::string>& targets) const {
    auto run = adapters_on_base(name, targets);
    run.train.dtype = ComputeType::kFloat64;
    run.train.max_steps = 2;
    run.train.validate_every_steps = 0;
    run.train.micro_batch_size = run.train.global_batch_size;
    run.data.validation_fraction = 0;
    return run;
  }

  static void expect_the_cpus_run(const RunConfig& run) {
    const auto on_device = named(run, run.run.name + "-on-device");
    train(run);
    const auto output = train_on_device(on_device).output;
    expect_mentions(output, {"memory at", "on strict"});
    expect_close_run(on_device, run, kClose);
  }

  static std::vector<double> losses_of(const RunConfig& run) {
    std::vector<double> losses;
    for (const auto& record : metrics_but_timings(run)) {
      if (!record.contains("split")) {
        losses.push_back(record.at("loss"));
      }
    }
    return losses;
  }
};

TEST_F(DeviceRun, HasTheCpusNumbersWithEveryLossMonitorAndRounding) {
  expect_the_cpus_run(everything("run"));
}

// Autograd runs a device's nodes in a thread of its own.
TEST_F(DeviceRun, IsProfiledByTheCpusParts) {
  auto run = plain("run");
  run.train.recompute_sublayers = 2;
  run.data.validation_fraction = 0;
  const auto profiled_on = [&](const std::string& name, at::Device device) {
    Trainer trainer(named(run, name), {}, alone(), device);
    trainer.profile();
    trainer.run([] { return false; });
    std::ifstream file(named(run, name).run_dir() / "profile.json");
    return nlohmann::json::parse(file);
  };
  const auto want = profiled_on("run", at::kCPU), got = profiled_on("on-device", strict_device());
  ASSERT_EQ(got.at("parts").size(), want.at("parts").size());
  EXPECT_EQ(got.at("device"), strict_device().str());
  double sum = 0;
  for (std::size_t i = 0; i < want.at("parts").size(); ++i) {
    const auto &a = got.at("parts")[i], &b = want.at("parts")[i];
    EXPECT_EQ(a.at("part"), b.at("part"));
    for (const auto* phase : {"forward_seconds", "recomputed_seconds", "backward_seconds"}) {
      EXPECT_EQ(a.at(phase) > 0, b.at(phase) > 0) << b.at("part") << ", " << phase;
    }
    sum += a.at("seconds").get<double>();
  }
  EXPECT_NEAR(sum, got.at("step_seconds").get<double>(), 1e-6);
}

TEST_F(DeviceRun, HasTheFirstStepsNumbersToTheLastBits) {
  auto run = plain("run");
  run.train.max_steps = 1;
  run.train.micro_batch_size = 2;  // of a batch of four
  run.data.validation_fraction = 0;
  const auto on_device = named(run, "on-device");
  train(run);
  train_on_device(on_device);
  const auto want = metrics_of_step(run, 1), got = metrics_of_step(on_device, 1);
  for (const auto* key : {"loss", "mtp_loss", "balance_loss"}) {
    const double a = got.at(key), b = want.at(key);
    EXPECT_NEAR(a, b, 1e-12 * std::abs(b)) << key;
  }
  // The optimizer's state holds the gradients, up to factors.
  const auto tensors = load_checkpoint(newest_checkpoint(on_device)).tensors,
             wanted = load_checkpoint(newest_checkpoint(run)).tensors;
  ASSERT_EQ(tensors.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].name.starts_with("optimizer/")) {
      expect_close(wanted[i].name,
                   tensors[i].value,
                   wanted[i].value,
                   {.absolute = 1e-18, .relative = 1e-10});
    }
  }
}

// Narrow types round elsewhere on a device: losses are as far from float64's as the CPU's are.
TEST_F(DeviceRun, IsAsExactInNarrowTypesAsTheCpu) {
  auto exact = plain("exact");
  exact.train.max_steps = 2;
  exact.data.validation_fraction = 0;
  train(exact);
  const auto want = losses_of(exact);
  const auto distance = [&](const RunConfig& run) {
    const auto losses = losses_of(run);
    double largest = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      largest = std::max(largest, std::abs(losses.at(i) - want[i]));
    }
    return largest;
  };
  for (const auto& [type, name, least] : {std::tuple{ComputeType::kFloat32, "float32", 1e-6},
                                          std::tuple{ComputeType::kBfloat16, "bfloat16", 1e-2}}) {
    auto run = named(exact, name);
    run.train.dtype = type;
    const auto on_device = named(run, text(name, "-on-device"));
    train(run);
    train_on_device(on_device);
    EXPECT_LT(distance(on_device), 2 * distance(run) + least) << name;
  }
}

TEST_F(DeviceRun, ContinuesOnEitherDeviceWhatTheOtherSaved) {
  const auto whole = everything("whole");
  train(whole);
  const auto there = named(whole, "to-the-device"), back = named(whole, "to-the-cpu");
  train(there, 2);
  train_on_device(there);
  expect_close_run(there, whole, kClose);
  train_on_device(back, 2);
  train(back);
  expect_close_run(back, whole, kClose);
}

TEST_F(DeviceRun, StoppingChangesNoBit) {
  auto whole = everything("whole");
  auto stopped = named(whole, "stopped");
  stopped.checkpoint.in_background = false;
  train_on_device(whole);
  train_on_device(stopped, 1);
  train_on_device(stopped);
  expect_same_run(stopped, whole);
}

TEST_F(DeviceRun, TrainsAdaptersOnAFrozenQuantizedBase) {
  expect_the_cpus_run(short_run_of_adapters("all", {"all"}));
  auto run = short_run_of_adapters("dropped", {"attention", "layers.*.ffn.shared_experts.*"});
  run.adapter.dropout = 0.3;
  run.adapter.dora = true;
  expect_the_cpus_run(run);
}

TEST_F(DeviceRun, TakesExpertsThatWereChosenEarlier) {
  auto run = plain("run");
  run.model.routing_mode = RoutingMode::kAnticipatory;
  run.model.routing_delay = 1;
  run.data.validation_fraction = 0;
  expect_the_cpus_run(run);
}

TEST_F(DeviceRun, LearnsPreferences) {
  std::string pairs;
  for (int i = 0; i < 12; ++i) {
    pairs += text(R"({"prompt": "say )", i, R"(", "chosen": "yes )", i, R"(", "rejected": "no"})") +
             "\n";
  }
  auto run = plain("run");
  run.train.max_steps = 2;
  run.data.train = {write("pairs.jsonl", pairs).string()};
  run.data.document_separator = "";
  run.data.validation_fraction = 0.2;
  run.data.seq_len = run.data.validation_seq_len = 96;
  run.loss.objective = ObjectiveKind::kPreference;
  run.loss.mtp_weight = 0;
  expect_the_cpus_run(run);
}

// ---- bfloat16 working copies of masters ----

class WorkingCopies : public DeviceRun {
 protected:
  /// Two steps of two micro-batches with Muon and AdamW, and activations that are computed again.
  RunConfig narrow(RunConfig run) const {
    run.train.dtype = ComputeType::kBfloat16;
    run.train.max_steps = 2;
    run.train.global_batch_size = 2;
    run.train.micro_batch_size = 1;
    run.train.recompute_sublayers = 2;
    run.data.seq_len = run.data.validation_seq_len = 8;
    run.data.validation_fraction = 0;
    run.logging.monitors = {};
    run.checkpoint.keep_best = 0;
    return run;
  }

  static RunConfig without(RunConfig run) {
    run.run.name += "-without";
    run.train.working_copies = false;
    return run;
  }

  static void expect_no_bit_changed(const RunConfig& run) {
    SCOPED_TRACE(run.run.name);
    expect_mentions(train_on_device(run).output, {", working copies "});
    train_on_device(without(run));
    expect_same_run(run, without(run));
  }
};

TEST_F(WorkingCopies, ChangeNoBit) {
  expect_no_bit_changed(narrow(plain("without-kernels")));
  expect_no_bit_changed(narrow(everything("with-rounded-experts")));
  auto run = narrow(plain("with-kernels"));
  run.train.parameters = {
      TrainedParameters::Kind::kPatterns,
      {"layers.1.attn.w*", "layers.1.ffn.experts.*", "layers.1.attn_norm.weight"}};
  const KernelsOnHost kernels;
  expect_no_bit_changed(run);
}

TEST_F(WorkingCopies, OfAdaptersAndOfAFrozenBaseChangeNoBit) {
  const auto base = narrow(plain("base"));
  train(base);
  auto run = narrow(adapters_on_base(
      "on-codes", {"layers.1.attn.wq_a.weight", "layers.1.ffn.experts.*.w2.weight"}));
  run.train.recompute_sublayers.reset();
  const KernelsOnHost kernels;
  expect_no_bit_changed(run);
  run.run.name = "on-masters";
  run.run.init_from = base.run_dir().string();
  run.model = base.model;
  expect_no_bit_changed(run);
}

TEST_F(WorkingCopies, AreMadeAnewAfterAResume) {
  auto whole = narrow(plain("whole")), stopped = named(whole, "stopped");
  stopped.checkpoint.in_background = false;
  train_on_device(without(whole));
  train_on_device(stopped, 1);
  train_on_device(stopped);
  expect_same_run(stopped, without(whole));
}

// Beside the masters, with a run's first allocation.
TEST_F(WorkingCopies, TakeTheMemoryThatThePlanSays) {
  const auto bytes_of = [](const RunConfig& run) {
    const auto before = TensorMemory::now(strict_device());
    const Trainer trainer(run, {}, alone(), strict_device());
    return static_cast<double>(TensorMemory::now(strict_device()) - before);
  };
  for (auto run : {narrow(plain("plain")),
                   narrow(everything("rounded")),
                   narrow(adapters_on_base("adapters", {"attention", "experts"}))}) {
    SCOPED_TRACE(run.run.name);
    run.train.device = {DeviceChoice::Kind::kCuda};
    const auto planned = plan_training(run, 1, bytes_of_codes(base_)).memory.working_copies_bytes;
    EXPECT_GT(planned, 0);
    EXPECT_EQ(bytes_of(run) - bytes_of(without(run)), planned);
    EXPECT_EQ(plan_training(without(run), 1, bytes_of_codes(base_)).memory.working_copies_bytes, 0);
  }
}

// ---- How often the host waits for the device ----

int64_t waits_of_run(const RunConfig& run) {
  return strict_device_use([&] { train_on_device(run); }).number_of_waits();
}

std::string all_waits_of_run(const RunConfig& run) {
  std::string list;
  for (const auto& [operation, count] : strict_device_use([&] { train_on_device(run); }).waits) {
    list += text(operation, " ", count, "; ");
  }
  return list;
}

// Losses, gradient norms, and whether weights are finite; and the experts' rows in each pass
// through a MoE layer.
TEST_F(DeviceRun, WaitsThreeTimesAStepAndOnceInEachPassThroughAMoeLayer) {
  constexpr int64_t kPerStep = 3;
  for (const bool recomputes : {false, true}) {
    auto run = everything(text("run-", recomputes));
    run.schedule.dense_steps = run.schedule.indexer_warmup_steps = 0;
    run.data.validation_fraction = 0;
    run.logging.monitors = {};
    run.checkpoint.keep_best = 0;
    run.train.micro_batch_size = 2;
    if (!recomputes) {
      run.train.recompute_sublayers.reset();
    }
    run.train.max_steps = 1;
    const auto one = waits_of_run(run);
    run.run.name += "-longer";
    run.train.max_steps = 2;
    const auto layers = run.model.num_hidden_layers + run.model.num_nextn_predict_layers;
    const auto micro_batches = run.train.global_batch_size / run.train.micro_batch_size;
    const auto passes = layers * micro_batches * (recomputes ? 2 : 1);
    EXPECT_EQ(waits_of_run(run) - one, kPerStep + passes) << all_waits_of_run(named(run, "listed"));
  }
}

// ---- A model after its training ----

class OpenedOnADevice : public DeviceRun {
 protected:
  OpenedOnADevice() : run_(plain("run")) { train(run_); }

  OpenedModel opened(at::Device device, bool trainable = false) const {
    return open_model(run_.run_dir(), at::kDouble, trainable, {}, device);
  }

  RunConfig run_;
};

TEST_F(OpenedOnADevice, IsEvaluatedAlike) {
  const TokenStore store(run_.run_dir() / "data/validation.tokens");
  const auto evaluation = [&](at::Device device) {
    return evaluate(*opened(device).model, store, 32, 2);
  };
  const auto want = evaluation(at::kCPU), got = evaluation(strict_device());
  EXPECT_NEAR(got.loss, want.loss, 1e-12 * want.loss);
  EXPECT_NEAR(got.bits_per_byte, want.bits_per_byte, 1e-12 * want.bits_per_byte);
  EXPECT_EQ(got.tokens, want.tokens);
}

TEST_F(OpenedOnADevice, WritesTheSameTexts) {
  const std::vector<std::vector<int64_t>> prompts = {{tokenizer_.begin_id(), 't', 'h', 'e'},
                                                     {tokenizer_.begin_id(), 'f', 'o', 'x'},
                                                     {tokenizer_.begin_id()}};
  const GenerateOptions options{
      .max_tokens = 12, .sampling = {.top_k = 40, .top_p = 0.9}, .seed = 3, .num_samples = 2};
  const auto ids_on = [&](at::Device device) {
    std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> ids;
    const auto token = [&](const Continuation& of, int64_t id) {
      ids[{of.prompt, of.sample}].push_back(id);
      return true;
    };
    generate(*opened(device).model, prompts, tokenizer_.end_id(), options, {.token = token});
    return ids;
  };
  EXPECT_EQ(ids_on(strict_device()), ids_on(at::kCPU));
}

TEST_F(OpenedOnADevice, AnswersInAConversationAlike) {
  const auto said_on = [&](at::Device device) {
    const auto model = opened(device);
    ChatSession session(*model.model, tokenizer_, {.seed = 5, .max_tokens = 12});
    std::string said;
    for (const auto* message : {"hello", "again"}) {
      session.say(message);
      session.reply(
          {.begin = [](bool) {}, .token = [&](std::string_view bytes) { said += bytes; }});
    }
    return said;
  };
  EXPECT_EQ(said_on(strict_device()), said_on(at::kCPU));
}

TEST_F(OpenedOnADevice, HasTheSameNumbersInAProbe) {
  const auto ids = at::arange(40, at::kLong).view({2, 20});
  const auto results_on = [&](at::Device device) {
    return probe(*opened(device, /*trainable=*/true).model,
                 ids,
                 {},
                 {.gradients = true, .streams = true, .mtp = true});
  };
  const auto want = results_on(at::kCPU), got = results_on(strict_device());
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].name, want[i].name);
    expect_close(
        want[i].name, got[i].value.cpu(), want[i].value, {.absolute = 1e-15, .relative = 1e-10});
  }
}

TEST_F(DeviceRun, OpensAQuantizedModelWithItsCodesOnTheDevice) {
  const auto ids = at::arange(20, at::kLong).view({1, 20});
  const auto loss_on = [&](at::Device device) {
    const auto opened = open_model(base_, at::kDouble, /*trainable=*/false, {}, device);
    int64_t codes = 0;
    for (const auto& parameter : opened.model->parameters().all()) {
      for (const auto& weight : parameter.quantized) {
        EXPECT_EQ(weight.values.device(), device) << parameter.name;
        ++codes;
      }
    }
    EXPECT_GT(codes, 0);
    return probe(*opened.model, ids, {}, {})[1].value.item<double>();
  };
  const double want = loss_on(at::kCPU);
  EXPECT_NEAR(loss_on(strict_device()), want, 1e-12 * want);
}

// ---- Experts that do not stay on the device ----

class StreamedExperts : public DeviceRun {
 protected:
  static constexpr double kGigabyte = 1e9;

  /// Adapters on a base of three layers and an MTP block, in two micro-batches, with a validation.
  RunConfig adapters(const std::string& name) const {
    auto run = adapters_on_base(name, {"attention", "experts"});
    run.train.device = {DeviceChoice::Kind::kCuda};
    run.train.dtype = ComputeType::kFloat64;
    run.train.max_steps = 2;
    run.train.validate_every_steps = 1;
    run.train.recompute_sublayers = 2;
    return run;
  }

  RunConfig streamed(RunConfig run, const std::string& name, double resident, double pinned) const {
    run.run.name = name;
    run.train.resident_gb = resident / kGigabyte;
    run.train.pinned_gb = pinned / kGigabyte;
    return run;
  }
};

TEST_F(StreamedExperts, ChangeNoBit) {
  for (const bool recomputes : {true, false}) {
    auto resident = adapters(text("resident-", recomputes));
    if (!recomputes) {
      resident.train.recompute_sublayers.reset();
    }
    train_on_device(resident);
    const double layer = layer_bytes();
    for (const auto& [kind, room, pinned] :
         {std::tuple{"pinned", 0.0, 1e9}, {"mapped", 0.0, 0.0}, {"mixed", layer, layer}}) {
      SCOPED_TRACE(text(kind, recomputes ? ", recomputed" : ""));
      const auto run = streamed(resident, text(kind, '-', recomputes), room, pinned);
      const auto output = train_on_device(run).output;
      expect_same_run(run, resident);
      expect_mentions(output, {room == 0 ? "experts: 0 of 4 layers" : "experts: 1 of 4 layers"});
    }
  }
}

// Their backward pass asks for the codes again, here of two layers that were computed together.
TEST_F(StreamedExperts, ChangeNoBitWithTheDevicesKernels) {
  const KernelsOnHost kernels;
  auto resident = adapters("resident");
  resident.train.dtype = ComputeType::kBfloat16;
  resident.train.max_steps = 1;
  resident.train.global_batch_size = resident.train.micro_batch_size = 1;
  resident.train.recompute_sublayers = 4;
  resident.data.seq_len = 8;
  resident.data.validation_fraction = 0;
  train_on_device(resident);
  const auto run = streamed(resident, "streamed", 0, 2 * layer_bytes());
  train_on_device(run);
  expect_same_run(run, resident);
}

TEST_F(StreamedExperts, StopAndContinueAnywhere) {
  const auto whole = adapters("whole");
  train_on_device(whole);
  auto stopped = streamed(whole, "stopped", 0, 1e9);
  stopped.checkpoint.in_background = false;
  train_on_device(stopped, 1);
  train_on_device(streamed(stopped, "stopped", layer_bytes(), 0));
  expect_same_run(stopped, whole);
}

TEST_F(StreamedExperts, TakeNoWaitOfTheHost) {
  const auto waits_of_second_step = [](RunConfig run) {
    run.data.validation_fraction = 0;
    run.train.validate_every_steps = 0;
    run.train.max_steps = 1;
    const auto one = waits_of_run(run);
    run.run.name += "-longer";
    run.train.max_steps = 2;
    return waits_of_run(run) - one;
  };
  const auto resident = adapters("resident");
  const auto want = waits_of_second_step(resident);
  EXPECT_EQ(waits_of_second_step(streamed(resident, "pinned", 0, 1e9)), want);
  EXPECT_EQ(waits_of_second_step(streamed(resident, "mapped", 0, 0)), want);
}

TEST_F(StreamedExperts, TakeTheMemoryOfTheBuffersAlone) {
  const auto resident = adapters("resident");
  const auto peak_of = [&](const RunConfig& run) {
    TensorMemory::take_peak(strict_device());
    const auto before = TensorMemory::now(strict_device());
    train_on_device(run);
    return TensorMemory::take_peak(strict_device()) - before;
  };
  const auto all = peak_of(resident);
  const auto two = peak_of(streamed(resident, "streamed", 0, 1e9));
  // Of four layers two are there at a time; in buffers each of six stacks begins at 256 bytes.
  EXPECT_LE(static_cast<double>(all - two), 2 * layer_bytes());
  EXPECT_GE(static_cast<double>(all - two), 2 * (layer_bytes() - 6 * 256));
}

TEST_F(StreamedExperts, AreCopiedAsOftenAsThePlanSays) {
  for (const double mtp_weight : {0.3, 0.0}) {
    SCOPED_TRACE(mtp_weight);
    auto run = streamed(adapters("run"), "run", 0, 1e9);
    run.train.validate_every_steps = 0;
    run.data.validation_fraction = 0;
    run.loss.mtp_weight = run.loss.mtp_decay_weight = mtp_weight;
    const auto copied_bytes = [&](int64_t steps) {
      auto longer = named(run, text("steps-", steps, "-of-", mtp_weight));
      longer.train.max_steps = steps;
      return strict_device_use([&] { train_on_device(longer); }).late_copy_bytes;
    };
    const auto plan = plan_training(run, 1, bytes_of_codes(base_));
    EXPECT_EQ(static_cast<double>(copied_bytes(3) - copied_bytes(2)),
              plan.memory.stream.pinned_sent_bytes);
  }
}

TEST_F(StreamedExperts, OfAnOpenedModelGiveTheSameTextsAndNumbers) {
  const auto ids = at::arange(20, at::kLong).view({1, 20});
  const auto opened = [&](const ExpertRoom& room) {
    return open_model(base_, at::kDouble, /*trainable=*/false, {}, strict_device(), room);
  };
  const auto texts = [&](const Transformer& model) {
    std::vector<int64_t> written;
    const auto token = [&](const Continuation&, int64_t id) {
      written.push_back(id);
      return true;
    };
    generate(model, {{1, 2, 3}}, /*end_id=*/0, {.max_tokens = 8, .seed = 3}, {.token = token});
    return written;
  };
  const auto whole = opened({});
  for (const auto& room : {ExpertRoom{.resident = 0}, ExpertRoom{.resident = 0, .pinned = 0}}) {
    const auto model = opened(room);
    EXPECT_TRUE(
        probe(*model.model, ids, {}, {})[0].value.equal(probe(*whole.model, ids, {}, {})[0].value));
    EXPECT_EQ(texts(*model.model), texts(*whole.model));
  }
}

TEST_F(StreamedExperts, NeedABaseWhoseExpertsAreCodesAndFrozen) {
  auto run = streamed(adapters("run"), "run", 0, 0);
  run.train.parameters = {TrainedParameters::Kind::kPatterns, {"*experts*"}};
  expect_mentions(error_of([&] { train_on_device(run); }),
                  {"base", "no frozen experts in FP4 or FP8", "train.resident_gb"});
}

}  // namespace
}  // namespace braid
