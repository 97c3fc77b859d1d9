#include "inference/probe.h"

#include <map>
#include <set>

#include <ATen/ATen.h>

#include "core/ignored_target.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

const at::ScalarType kAllTypes[] = {at::kDouble, at::kFloat, at::kBFloat16};

at::Tensor some_ids(int64_t rows, int64_t length) {
  return (at::arange(rows * length, at::kLong) * 37 % 320).view({rows, length});
}

std::map<std::string, at::Tensor> probed(Transformer& model,
                                         const at::Tensor& ids,
                                         const at::Tensor& labels,
                                         const ProbeOptions& options = {}) {
  std::map<std::string, at::Tensor> result;
  for (const auto& [name, value] : probe(model, ids, labels, options)) {
    EXPECT_FALSE(result.contains(name)) << name << " twice";
    result[name] = value;
  }
  return result;
}

TEST(Probe, NamesShapesAndTypesAreTheContracts) {
  for (const auto type : kAllTypes) {
    Transformer model(tiny_model(), type, 3);
    const auto got =
        probed(model, some_ids(2, 9), {}, {.gradients = true, .streams = true, .mtp = true});
    std::map<std::string, std::vector<int64_t>> shapes = {{"logits", {2, 9, 320}},
                                                          {"loss", {}},
                                                          {"mtp_logits", {2, 9, 320}},
                                                          {"mtp_loss", {}},
                                                          {"streams.0", {2, 9, 2, 16}},
                                                          {"streams.1", {2, 9, 2, 16}},
                                                          {"streams.2", {2, 9, 2, 16}}};
    for (const auto& [name, value] : model.parameters().tensors()) {
      if (value.is_floating_point()) {
        shapes["grad." + name] = shapes["mtp_grad." + name] = value.sizes().vec();
      }
    }
    EXPECT_TRUE(shapes.contains("grad.layers.1.ffn.experts.3.w2.weight"));
    ASSERT_EQ(got.size(), shapes.size());
    for (const auto& [name, shape] : shapes) {
      ASSERT_TRUE(got.contains(name)) << name;
      EXPECT_EQ(got.at(name).sizes().vec(), shape) << name;
      EXPECT_EQ(got.at(name).scalar_type(), type == at::kDouble ? at::kDouble : at::kFloat) << name;
    }
  }
}

TEST(Probe, GivesOnlyWhatWasAskedFor) {
  Transformer model(tiny_model(), at::kFloat, 3);
  EXPECT_EQ(probed(model, some_ids(1, 5), {}).size(), 2u);
}

TEST(Probe, WithoutLabelsTheNextIdIsTheTargetAndTheLastPositionIsIgnored) {
  Transformer model(tiny_model(), at::kDouble, 3);
  const auto ids = some_ids(2, 9);
  const auto labels =
      at::cat({ids.narrow(1, 1, 8), at::full({2, 1}, kIgnoredTarget, at::kLong)}, 1);
  expect_bitwise_equal(
      "loss", probed(model, ids, {}).at("loss"), probed(model, ids, labels).at("loss"));
}

TEST(Probe, TheLossIsTheMeanOverCountedTargets) {
  Transformer model(tiny_model(), at::kDouble, 3);
  const auto ids = some_ids(2, 4);
  const auto labels = at::tensor({-100, 5, -100, 7, 300, -100, -100, -100}, at::kLong).view({2, 4});
  const auto got = probed(model, ids, labels);
  const auto log_probabilities = got.at("logits").log_softmax(-1);
  const double sum = log_probabilities[0][1][5].item<double>() +
                     log_probabilities[0][3][7].item<double>() +
                     log_probabilities[1][0][300].item<double>();
  EXPECT_NEAR(got.at("loss").item<double>(), -sum / 3, 1e-12);
}

TEST(Probe, WhatTheLossDoesNotReachHasZeroGradients) {
  Transformer model(tiny_model(), at::kDouble, 3);
  const auto got = probed(model, some_ids(1, 9), {}, {.gradients = true});
  EXPECT_EQ(got.at("grad.mtp.0.e_proj.weight").abs().max().item<double>(), 0);
  EXPECT_EQ(got.at("grad.layers.1.attn.indexer.wq_b.weight").abs().max().item<double>(), 0);
  EXPECT_GT(got.at("grad.layers.2.attn.wq_a.weight").abs().max().item<double>(), 0);

  const auto ignored = at::full({1, 9}, kIgnoredTarget, at::kLong);
  for (const auto& [name, value] : probed(model, some_ids(1, 9), ignored, {.gradients = true})) {
    if (name != "logits") {
      EXPECT_EQ(value.abs().max().item<double>(), 0) << name;
    }
  }
}

TEST(Probe, GradientsAreThoseOfTheLossAlone) {
  Transformer model(tiny_model(), at::kDouble, 3);
  const auto alone = probed(model, some_ids(1, 9), {}, {.gradients = true});
  const auto both = probed(model, some_ids(1, 9), {}, {.gradients = true, .mtp = true});
  const auto again = probed(model, some_ids(1, 9), {}, {.gradients = true});
  for (const auto& [name, value] : alone) {
    expect_bitwise_equal(name, both.at(name), value);
    expect_bitwise_equal(name, again.at(name), value);
  }
}

TEST(Probe, RefusesInputsThatDoNotFit) {
  Transformer model(tiny_model(), at::kFloat, 3);
  const auto error = [&](const at::Tensor& ids, const at::Tensor& labels) {
    return error_of([&] { probe(model, ids, labels, {}); });
  };
  const auto ids = some_ids(1, 4);
  expect_mentions(error(ids.to(at::kFloat), {}), {"input_ids", "int64"});
  expect_mentions(error(ids.flatten(), {}), {"input_ids", "[B, S]"});
  expect_mentions(error(ids + 320, {}), {"input_ids", "outside the vocabulary of 320"});
  expect_mentions(error(ids, ids.narrow(1, 0, 3)), {"labels", "[1, 3]", "[1, 4]"});
  expect_mentions(error(ids, ids - 2), {"labels", "outside the vocabulary"});
  auto config = tiny_model();
  config.num_nextn_predict_layers = 0;
  Transformer without_mtp(config, at::kFloat, 3);
  expect_mentions(error_of([&] { probe(without_mtp, ids, {}, {.mtp = true}); }), {"--mtp"});
}

}  // namespace
}  // namespace braid
