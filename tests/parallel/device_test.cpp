// Ranks whose tensors are on a device that the CPU cannot touch: the same numbers as on the CPU.
#include <limits>
#include <tuple>

#include <ATen/ATen.h>

#include "parallel/expert_exchange.h"
#include "parallel/gradient_sync.h"
#include "tests/formats/quantized_base.h"
#include "tests/parallel/ranks.h"
#include "tests/parallel/through_host.h"
#include "tests/parallel/uneven_exchange.h"
#include "tests/support/compare.h"
#include "tests/support/kernels_on_host.h"
#include "tests/support/normal_tensor.h"
#include "tests/support/strict_device.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::KernelsOnHost;
using testing::normal_tensor;
using testing::ranks;
using testing::strict_device;
using testing::through_host;
using testing::UnevenExchange;

TEST(ThroughHost, ExchangesAndGathersTensorsOfADeviceAsThoseOfTheCpu) {
  const auto group = through_host(ranks().split(0));
  const UnevenExchange exchange(*group);
  const auto exchanged = [&](at::Device device) {
    const auto received = exchange.received(device), all = exchange.all(device);
    const int64_t before = group->bytes_sent();
    const auto first = group->start_all_to_all(
        exchange.to_send.to(device), exchange.out, received, exchange.in, "test");
    const auto second =
        group->start_all_gather(exchange.to_gather.to(device), all, exchange.gathered, "test");
    first->wait();
    second->wait();
    second->wait();  // changes nothing
    return std::tuple(received.cpu(), all.cpu(), group->bytes_sent() - before);
  };
  const auto [want, want_all, want_bytes] = exchanged(at::kCPU);
  const auto [got, got_all, bytes] = exchanged(strict_device());
  expect_bitwise_equal("exchanged", got, want);
  expect_bitwise_equal("gathered", got_all, want_all);
  EXPECT_EQ(bytes, want_bytes);
}

TEST(ThroughHost, SplitsIntoGroupsThatDoTheSame) {
  const auto group = through_host(ranks().split(0))->split(ranks().rank() % 2);
  const auto all = at::empty({group->size()}, at::device(strict_device()));
  const std::vector<int64_t> rows(static_cast<std::size_t>(group->size()), 1);
  const auto own = at::full({1}, static_cast<double>(ranks().rank()), all.options());
  group->start_all_gather(own, all, rows, "test")->wait();
  for (int64_t r = 0; r < group->size(); ++r) {
    EXPECT_EQ(all[r].item<double>(), static_cast<double>(2 * r + ranks().rank() % 2));
  }
}

TEST(StochasticRounding, HasTheCpusBitsOnADevice) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto special = at::tensor({0.0f,
                                   -0.0f,
                                   infinity,
                                   -infinity,
                                   std::numeric_limits<float>::quiet_NaN(),
                                   std::numeric_limits<float>::max(),
                                   std::numeric_limits<float>::lowest(),
                                   std::numeric_limits<float>::denorm_min()});
  const auto values = at::cat({special, normal_tensor("values", {1001}, at::kFloat)});
  const std::vector<std::pair<uint64_t, int64_t>> streams = {
      {5, 0}, {~uint64_t{0}, 7}, {0x9e3779b97f4a7c15, (int64_t{1} << 34) + 1}};
  for (const auto& [key, first] : streams) {
    for (const auto& some : {values, values.slice(0, 3), values.slice(0, 0, 0)}) {
      const auto got = stochastically_rounded(some.to(strict_device()), key, first);
      EXPECT_EQ(got.device(), strict_device());
      expect_bitwise_equal("rounded", got.cpu(), stochastically_rounded(some, key, first));
    }
  }
}

// Beside what experts and exchanges wait for, of which there are none here.
TEST(ExpertExchange, WaitsOnceForTheNumbersOfRows) {
  const auto self = alone();
  const auto x = normal_tensor("x", {6, 4}).to(strict_device()).requires_grad_(true),
             weights = normal_tensor("weights", {6, 2}).to(strict_device()).requires_grad_(true);
  const auto experts =
      at::tensor({0, 2, 1, 3, 2, 3, 3, 0, 2, 1, 0, 1}, at::kLong).view({6, 2}).to(strict_device());
  const auto scaled = [](int64_t, const at::Tensor& rows, const at::Tensor&, const at::Tensor& by) {
    return rows * by.unsqueeze(1);
  };
  at::Tensor y;
  const auto use = testing::strict_device_use([&] {
    y = exchanged_experts({self.get(), 2}, 4, x, experts, weights, at::kDouble, scaled);
    y.sum().backward();
  });
  EXPECT_EQ(use.number_of_waits(), 1);
  testing::expect_close(
      "y", y.cpu(), (x * weights.sum(1, true)).detach().cpu(), {.relative = 1e-14});
}

void train_on(at::Device device, const RunConfig& run, std::unique_ptr<Communicator> group) {
  ::testing::internal::CaptureStdout();
  try {
    Trainer(run, {}, std::move(group), device).run([] { return false; });
  } catch (...) {
    ::testing::internal::GetCapturedStdout();
    throw;
  }
  ::testing::internal::GetCapturedStdout();
}

void train_on(at::Device device, const RunConfig& run) {
  train_on(device, run, through_host(ranks().split(0)));
}

// The runs of all ranks, in the folder of the first.
class RunOfRanks : public testing::TinyRun {
 protected:
  RunConfig run_of_ranks(const std::string& name) const {
    auto run = config(name);
    run.run.output_dir = ranks().from_first((folder_ / "runs").string(), "folder");
    run.data.train = {ranks().from_first(corpus_.string(), "corpus")};
    run.model.n_routed_experts = ranks().size() == 3 ? 6 : 4;
    run.data.seq_len = run.data.validation_seq_len = 48;
    run.data.validation_fraction = 0;
    run.train.dtype = ComputeType::kFloat64;
    run.train.global_batch_size = 12;
    run.train.micro_batch_size = 6;
    run.train.max_steps = 2;
    run.schedule.warmup_steps = 0;
    run.loss.balance_weight = 0.1;
    run.loss.indexer_mode = IndexerMode::kSparse;
    run.logging.monitors = {};
    run.parallel.compare_every_steps = 1;
    run.parallel.bucket_mib = 1;
    return run;
  }

  void expect_the_cpus_run(const RunConfig& run) const {
    SCOPED_TRACE(run.run.name);
    auto on_device = run;
    on_device.run.name += "-on-device";
    train_on(at::kCPU, run);
    train_on(strict_device(), on_device);
    if (ranks().rank() == 0) {
      testing::expect_close_run(on_device, run, {.metrics = 1e-6, .tensors = 1e-6});
    }
    ranks().barrier("comparison");
  }
};

TEST_F(RunOfRanks, HasTheCpusNumbersWithDividedExperts) {
  auto run = run_of_ranks("experts");
  run.parallel.expert = ranks().size();
  run.train.recompute_sublayers = 2;
  expect_the_cpus_run(run);
}

// A rank's copies of what the others have updated, too.
TEST_F(RunOfRanks, HasTheSameBitsWithAndWithoutWorkingCopies) {
  auto run = run_of_ranks("copies");
  run.train.dtype = ComputeType::kBfloat16;
  run.parallel.expert = ranks().size();
  run.data.seq_len = run.data.validation_seq_len = 8;
  run.train.global_batch_size = 2 * ranks().size();
  run.train.micro_batch_size = 1;
  run.train.parameters = {TrainedParameters::Kind::kPatterns,
                          {"layers.1.attn.w*", "layers.1.ffn.experts.*"}};
  auto without = run;
  without.run.name = "without";
  without.train.working_copies = false;
  const KernelsOnHost kernels;  // experts without them are multiplied by twins, as masters
  train_on(strict_device(), run);
  train_on(strict_device(), without);
  if (ranks().rank() == 0) {
    testing::expect_same_run(run, without);
  }
  ranks().barrier("comparison");
}

TEST_F(RunOfRanks, HasTheCpusNumbersWithDividedSequences) {
  auto run = run_of_ranks("context");
  run.parallel.context = ranks().size();
  expect_the_cpus_run(run);
}

// Ranks that divide the experts of a quantized base, whose codes come to the device when a pass
// asks for them.
class StreamedExpertsOfRanks : public testing::QuantizedBase {
 protected:
  /// Two steps of adapters of attention and experts, the experts divided among all ranks.
  RunConfig divided(const std::string& name) const {
    auto run = adapters_on_base(name, {"attention", "experts"});
    run.run.output_dir = ranks().from_first((folder_ / "runs").string(), "folder");
    run.run.init_from = ranks().from_first(base_.string(), "base");
    run.data.train = {ranks().from_first(corpus_.string(), "corpus")};
    run.data.seq_len = 24;
    run.data.validation_fraction = 0;
    run.train.device = {DeviceChoice::Kind::kCuda};
    run.train.dtype = ComputeType::kFloat64;
    run.train.max_steps = 2;
    run.train.global_batch_size = 8;
    run.train.micro_batch_size = 2;
    run.train.recompute_sublayers = 2;
    run.logging.monitors = {};
    run.parallel.expert = ranks().size();
    run.parallel.compare_every_steps = 1;
    return run;
  }

  static RunConfig streamed(RunConfig run, const char* name, double resident, double pinned) {
    constexpr double kGigabyte = 1e9;
    run.run.name = name;
    run.train.resident_gb = resident / kGigabyte;
    run.train.pinned_gb = pinned / kGigabyte;
    return run;
  }
};

TEST_F(StreamedExpertsOfRanks, HaveTheBitsOfResidentOnesAndTheNumbersOfOneRank) {
  const auto resident = divided("resident");
  if (resident.model.n_routed_experts % ranks().size() != 0) {
    GTEST_SKIP() << "the base's experts cannot be divided among " << ranks().size() << " ranks";
  }
  train_on(strict_device(), resident);
  const double layer = layer_bytes() / static_cast<double>(ranks().size());  // what a rank has
  for (const auto& run : {streamed(resident, "pinned", 0, 1e9),
                          streamed(resident, "mapped", 0, 0),
                          streamed(resident, "mixed", layer, layer)}) {
    SCOPED_TRACE(run.run.name);
    const auto use = testing::strict_device_use([&] { train_on(strict_device(), run); });
    EXPECT_GT(use.late_copy_bytes, 0);
    if (ranks().rank() == 0) {
      testing::expect_same_run(run, resident);
    }
  }
  if (ranks().rank() == 0) {
    auto one = streamed(resident, "one-rank", 0, 1e9);
    one.parallel.expert = 1;
    train_on(strict_device(), one, alone());
    testing::expect_close_run(resident, one, {.metrics = 1e-6, .tensors = 1e-6});
  }
  ranks().barrier("comparison");
}

TEST_F(RunOfRanks, HasTheCpusNumbersWithDividedBatches) {
  auto run = run_of_ranks("batches");
  run.parallel.fixed_order = true;
  expect_the_cpus_run(run);
  auto rounded = run_of_ranks("rounded");
  rounded.parallel.reduce_dtype = ReduceType::kBfloat16;
  expect_the_cpus_run(rounded);
}

}  // namespace
}  // namespace braid
