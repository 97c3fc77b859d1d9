// Quantization-aware training: qat_experts and qat_indexer.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "kernels/fake_quant.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using namespace testing;

ModelConfig config_of_groups() {
  auto config = tiny_config();
  config.hidden_size = config.moe_intermediate_size = config.index_head_dim = 32;
  return config;
}

bool is_expert(const Parameter& parameter) {
  return parameter.name.find("ffn.experts.") != std::string::npos;
}

TEST(QatExperts, ComputesWithRoundedExpertsAndTrainsTheMasters) {
  auto config = config_of_groups();
  const auto ids = random_ids(2, 26, config.vocab_size);
  const auto plain_logits = logits_of(randomized(config), ids).detach();
  for (const auto format : {QuantFormat::kFp4, QuantFormat::kFp8}) {
    config.qat_experts = QuantFormat::kOff;
    const auto rounded = randomized(config);
    for (const auto& parameter : rounded.parameters().all()) {
      if (is_expert(parameter)) {
        const at::NoGradGuard no_grad;
        parameter.value.copy_(fake_quantized(parameter.value, format));
      }
    }
    config.qat_experts = format;
    const auto qat = randomized(config);
    const auto want = logits_of(rounded, ids), got = logits_of(qat, ids);
    expect_bitwise_equal("logits", got.detach(), want.detach());
    EXPECT_GT(relative_error(got.detach(), plain_logits), 1e-4);
    want.square().sum().backward();
    got.square().sum().backward();
    for (std::size_t i = 0; i < qat.parameters().all().size(); ++i) {
      const auto& parameter = qat.parameters().all()[i];
      if (parameter.value.grad().defined()) {
        expect_bitwise_equal(
            parameter.name, parameter.value.grad(), rounded.parameters().all()[i].value.grad());
      }
    }
  }
}

TEST(QatIndexer, ChoosesByRoundedScoresOnly) {
  auto config = config_of_groups();
  const auto ids = random_ids(2, 40, config.vocab_size);
  const auto logits = [&](QuantFormat format) {
    config.qat_indexer = format;
    return logits_of(randomized(config), ids).detach();
  };
  config.index_topk.reset();
  expect_bitwise_equal("dense", logits(QuantFormat::kFp4), logits(QuantFormat::kOff));
  config.index_topk = 2;
  EXPECT_GT(relative_error(logits(QuantFormat::kFp4), logits(QuantFormat::kOff)), 1e-4);
}

TEST(Qat, IsLeftOutWhereItIsNotUsed) {
  auto config = config_of_groups();
  config.index_topk = 2;
  const auto ids = random_ids(2, 40, config.vocab_size);
  const auto plain = logits_of(randomized(config), ids).detach();
  config.qat_experts = config.qat_indexer = QuantFormat::kFp4;
  const auto model = randomized(config);
  const auto rounded = logits_of(model, ids).detach();
  {
    const UseQat off(model, false);
    expect_bitwise_equal("off", logits_of(model, ids).detach(), plain);
    const UseQat on(model, true);
    expect_bitwise_equal("on", logits_of(model, ids).detach(), rounded);
  }
  expect_bitwise_equal("afterwards", logits_of(model, ids).detach(), rounded);
  EXPECT_FALSE(rounded.equal(plain));
}

TEST(Qat, SaysWhichSizesDoNotFit) {
  const auto error = [](auto change) {
    auto config = config_of_groups();
    change(config);
    try {
      config.validate();
    } catch (const ConfigError& problem) {
      return std::string(problem.what());
    }
    return std::string();
  };
  EXPECT_EQ(error([](auto& c) { c.qat_experts = c.qat_indexer = QuantFormat::kFp4; }), "");
  for (const auto& message : {error([](auto& c) {
                                c.qat_experts = QuantFormat::kFp4;
                                c.moe_intermediate_size = 48;
                              }),
                              error([](auto& c) {
                                c.qat_indexer = QuantFormat::kFp4;
                                c.index_head_dim = 96;
                              }),
                              error([](auto& c) { c.qat_indexer = QuantFormat::kFp8; })}) {
    EXPECT_NE(message.find("model.qat_"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace braid
