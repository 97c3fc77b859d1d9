#include "parallel/gradient_sync.h"

#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/parallel/ranks.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::normal_tensor;
using testing::ranks;

// Three parameters: one matrix in two ranges, a vector, and one that the loss does not reach.
struct Model {
  at::Tensor matrix, vector, unreached;

  explicit Model(at::ScalarType type)
      : matrix(normal_tensor("matrix", {6, 4}, type).requires_grad_(true)),
        vector(normal_tensor("vector", {4}, type).requires_grad_(true)),
        unreached(normal_tensor("unreached", {2, 2}, type).requires_grad_(true)) {}

  std::vector<at::Tensor> all() const { return {matrix, vector, unreached}; }

  void backward(int64_t micro_batch) const {
    const auto x = normal_tensor(text("x ", micro_batch), {5, 6}, matrix.scalar_type());
    (x.matmul(matrix) * vector).tanh().sum().backward();
  }
};

std::vector<at::Tensor> gradients_of(at::ScalarType type, int64_t micro_batch) {
  const Model model(type);
  model.backward(micro_batch);
  return {model.matrix.grad(), model.vector.grad(), at::zeros({2, 2}, type)};
}

std::vector<SyncedParameter> synced(const Model& model, int64_t owners) {
  return {{.value = model.matrix, .key = 1, .ranges = {{0, 8, 0}, {8, 24, owners - 1}}},
          {.value = model.vector, .key = 2, .ranges = {{0, 4, owners / 2}}},
          {.value = model.unreached, .key = 3, .ranges = {{0, 4, 0}}, .ready_when_summed = false}};
}

// Calls f(parameter, begin, end) for what this rank owns.
void for_each_owned(const std::vector<SyncedParameter>& parameters,
                    int64_t owners,
                    const std::function<void(std::size_t, const OwnedRange&)>& f) {
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    for (const auto& range : parameters[p].ranges) {
      if (range.owner == ranks().rank() % owners) {
        f(p, range);
      }
    }
  }
}

at::Tensor part(const at::Tensor& tensor, const OwnedRange& range) {
  return tensor.reshape(-1).slice(0, range.begin, range.end);
}

// The micro-batches of the step are divided among the ranks, `each` for one.
void run_step(GradientSync& sync, const Model& model, int64_t each) {
  sync.begin_step(7, {true, true, true});
  for (int64_t i = 0; i < each; ++i) {
    sync.begin_micro_batch(i == each - 1);
    model.backward(ranks().rank() * each + i);
  }
  sync.finish();
}

TEST(GradientSync, OwnersHaveTheSumsOfAllRanks) {
  for (const bool one_group : {true, false}) {
    for (const int64_t bucket : {1, 100, 1 << 20}) {
      for (const int64_t each : {1, 3}) {
        const int64_t owners = one_group ? ranks().size() : 1;
        const Model model(at::kDouble);
        const auto parameters = synced(model, owners);
        GradientSync sync(ranks(), parameters, {.owner_group = owners, .bucket_bytes = bucket});
        run_step(sync, model, each);
        std::vector<at::Tensor> want = gradients_of(at::kDouble, 0);
        for (int64_t m = 1; m < ranks().size() * each; ++m) {
          const auto more = gradients_of(at::kDouble, m);
          for (std::size_t p = 0; p < want.size(); ++p) {
            want[p] = want[p] + more[p];
          }
        }
        for_each_owned(parameters, owners, [&](std::size_t p, const OwnedRange& range) {
          testing::expect_close(text("parameter ", p),
                                part(parameters[p].value.grad(), range),
                                part(want[p], range),
                                {.absolute = 1e-15, .relative = 1e-13});
        });
      }
    }
  }
}

// Each element once to its owner, what is owned on to the other owner groups, and weights back.
TEST(GradientSync, SendsNoMoreThanMustTravel) {
  for (const bool rounds : {false, true}) {
    for (const int64_t groups : {int64_t{1}, ranks().size()}) {
      const int64_t owners = ranks().size() / groups;
      const Model model(at::kDouble);
      const auto parameters = synced(model, owners);
      GradientSync sync(ranks(),
                        parameters,
                        {.owner_group = owners,
                         .bucket_bytes = 100,
                         .reduce_dtype = rounds ? ReduceType::kBfloat16 : ReduceType::kMaster});
      int64_t all = 0, own = 0;
      for (const auto& value : model.all()) {
        all += value.numel();
      }
      for_each_owned(parameters, owners, [&](std::size_t, const OwnedRange& range) {
        own += range.end - range.begin;
      });
      run_step(sync, model, 2);
      const int64_t of_gradients = (rounds ? 2 : 8) * (all - own) + 8 * (groups - 1) * own;
      EXPECT_EQ(sync.bytes_sent(), of_gradients);
      sync.share_weights();
      EXPECT_EQ(sync.bytes_sent(), of_gradients + 8 * (owners - 1) * own);
    }
  }
}

// What any number of ranks must give for these micro-batches.
TEST(GradientSync, InFixedOrderTheBitsAreThoseOfTheTreeOverMicroBatches) {
  for (const int64_t each : {1, 2, 4}) {
    const Model model(at::kFloat);
    const auto parameters = synced(model, ranks().size());
    GradientSync sync(ranks(), parameters, {.owner_group = ranks().size(), .fixed_order = true});
    for (const int64_t step : {1, 2}) {
      for (const auto& value : model.all()) {
        value.mutable_grad().reset();
      }
      run_step(sync, model, each);
      for_each_owned(parameters, ranks().size(), [&](std::size_t p, const OwnedRange& range) {
        std::vector<at::Tensor> micro_batches;
        for (int64_t m = 0; m < ranks().size() * each; ++m) {
          micro_batches.push_back(gradients_of(at::kFloat, m)[p].clone());
        }
        expect_bitwise_equal(text("parameter ", p, " in step ", step),
                             part(parameters[p].value.grad(), range),
                             part(tree_sum(micro_batches), range));
      });
    }
  }
}

TEST(GradientSync, RoundedGradientsHaveTheirStatedError) {
  const Model model(at::kFloat);
  const auto parameters = synced(model, ranks().size());
  GradientSync sync(
      ranks(), parameters, {.owner_group = ranks().size(), .reduce_dtype = ReduceType::kBfloat16});
  run_step(sync, model, 1);
  for_each_owned(parameters, ranks().size(), [&](std::size_t p, const OwnedRange& range) {
    at::Tensor want, bound;
    for (int64_t m = 0; m < ranks().size(); ++m) {
      const auto gradient = part(gradients_of(at::kFloat, m)[p], range);
      want = m == 0 ? gradient : want + gradient;
      const auto error = gradient.abs() / 128;
      bound = m == 0 ? error : bound + error;
    }
    const auto error = (part(parameters[p].value.grad(), range) - want).abs();
    EXPECT_TRUE((error <= bound * (ranks().size() > 1 ? 1.01 : 0) + 1e-7).all().item<bool>());
  });
}

TEST(GradientSync, WeightsOfEveryOwnerReachAllRanks) {
  const Model model(at::kDouble);
  const int64_t owners = ranks().size();
  const auto parameters = synced(model, owners);
  GradientSync sync(ranks(), parameters, {.owner_group = owners, .bucket_bytes = 64});
  const auto before = model.vector.detach().clone();
  sync.begin_step(1, {true, false, true});  // the vector does not learn
  sync.begin_micro_batch(true);
  model.backward(ranks().rank());
  sync.finish();
  {
    const at::NoGradGuard no_grad;
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      for (const auto& range : parameters[p].ranges) {
        // What a rank does not own, it has wrong.
        const bool own = range.owner == ranks().rank();
        part(parameters[p].value.detach(), range).fill_(own ? 1.0 + range.owner : -1);
      }
    }
  }
  sync.share_weights();
  for (const std::size_t p : {0, 2}) {
    for (const auto& range : parameters[p].ranges) {
      EXPECT_TRUE(
          (part(parameters[p].value.detach(), range) == 1.0 + range.owner).all().item<bool>());
    }
  }
}

TEST(StochasticRounding, IsUnbiasedAndAPureFunctionOfKeyAndElement) {
  const double value = 1 + 0.3 / 128;
  const auto values = at::full({200000}, value, at::kFloat);
  const auto rounded = stochastically_rounded(values, 5, 0);
  EXPECT_NEAR(rounded.to(at::kDouble).mean().item<double>(), value, 3e-5);
  EXPECT_EQ(std::get<0>(at::_unique(rounded.to(at::kFloat))).numel(), 2);
  expect_bitwise_equal("from 1000 on",
                       stochastically_rounded(values.slice(0, 1000), 5, 1000),
                       rounded.slice(0, 1000));
  EXPECT_FALSE(stochastically_rounded(values, 6, 0).equal(rounded));
}

TEST(StochasticRounding, KeepsWhatBfloat16Holds) {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto values = at::tensor({0.0f,
                                  -0.0f,
                                  1.5f,
                                  -3.0f,
                                  infinity,
                                  -infinity,
                                  std::numeric_limits<float>::quiet_NaN(),
                                  std::numeric_limits<float>::max(),
                                  std::numeric_limits<float>::denorm_min()});
  for (uint64_t key = 0; key < 50; ++key) {
    const auto rounded = stochastically_rounded(values, key, 0).to(at::kFloat);
    expect_bitwise_equal("exact", rounded.slice(0, 0, 6), values.slice(0, 0, 6));
    EXPECT_TRUE(std::isnan(rounded[6].item<float>()));
    EXPECT_TRUE(std::isfinite(rounded[7].item<float>()));
    EXPECT_LE(rounded[8].item<float>(), 1e-40f);
  }
}

}  // namespace
}  // namespace braid
