#include "model/lora.h"

#include <cmath>
#include <map>
#include <set>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/ignored_target.h"
#include "core/named_tensor.h"
#include "core/parameter_names.h"
#include "kernels/codec.h"
#include "model/targets.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::expect_close;
using testing::parameter;

ModelConfig adapted_config() {
  auto config = testing::tiny_config();
  config.num_nextn_predict_layers = 1;
  return config;
}

LoraConfig lora_of(const std::vector<std::string>& targets) {
  LoraConfig lora;
  lora.rank = 3;
  lora.alpha = 2;
  lora.targets.items = targets;
  return lora;
}

std::vector<std::string> names_of_model(const ModelConfig& config) {
  const WithoutValues without_values;
  std::vector<std::string> names;
  const Transformer model(config, at::kFloat, 0);
  for (const auto& each : model.parameters().all()) {
    names.push_back(each.name);
  }
  return names;
}

// The matrices with an adapter, layers and numbers of experts left out.
std::set<std::string> adapted(const LoraConfig& lora, const ModelConfig& config) {
  std::set<std::string> kinds;
  for (const auto& name : names_of_model(config)) {
    if (lora.target_of(name)) {
      const auto [block, leaf] = split_block(name);
      kinds.insert(std::string(block.substr(0, block.find('.'))) + ":" + std::string(leaf));
    }
  }
  return kinds;
}

std::string message_of(const LoraConfig& lora, const ModelConfig& config = adapted_config()) {
  try {
    lora.validate(names_of_model(config));
  } catch (const ConfigError& error) {
    return error.what();
  }
  ADD_FAILURE() << "is taken for sound";
  return "";
}

void expect_message(const LoraConfig& lora, const std::vector<std::string>& parts) {
  const auto message = message_of(lora);
  for (const auto& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
  }
}

TEST(LoraTargets, OfAttentionAreTheFourProductsOfTheDecoderLayers) {
  const auto config = adapted_config();
  const std::set<std::string> attention = {"layers:attn.wq_a.weight",
                                           "layers:attn.wq_b.weight",
                                           "layers:attn.wkv.weight",
                                           "layers:attn.wo_b.weight"};
  EXPECT_EQ(adapted(lora_of({"attention"}), config), attention);
  auto with_experts = attention;
  for (const auto* matrix : {"w1", "w2", "w3"}) {
    with_experts.insert(text("layers:ffn.experts.*.", matrix, ".weight"));
  }
  EXPECT_EQ(adapted(lora_of({"attention", "experts"}), config), with_experts);
}

TEST(LoraTargets, AllAreEveryMatrixOfTheTable) {
  std::set<std::string> matrices, got;
  for (const auto& kind : parameter_kinds()) {
    if (kind.is_linear() || kind.role == ParameterRole::kMatrix) {
      matrices.emplace(kind.name);
    }
  }
  for (const auto& name : adapted(lora_of({"all"}), adapted_config())) {
    got.insert(name.substr(name.find(':') + 1));
  }
  EXPECT_EQ(got, matrices);
}

TEST(LoraTargets, PatternsTakeIndexersOnlyWhereTheySaySo) {
  const auto config = adapted_config();
  EXPECT_EQ(adapted(lora_of({"layers.*wq_b.weight"}), config),
            std::set<std::string>{"layers:attn.wq_b.weight"});
  EXPECT_EQ(adapted(lora_of({"layers.*.indexer.wq_b.weight"}), config),
            std::set<std::string>{"layers:attn.indexer.wq_b.weight"});
}

TEST(LoraTargets, ThatMatchNothingAreNamedWithWhatIsNear) {
  expect_message(lora_of({"attention", "wq_b"}),
                 {"adapter.targets[1]",
                  "'wq_b' matches no matrix",
                  "layers.*.attn.indexer.wq_b.weight, layers.*.attn.wq_b.weight"});
  expect_message(lora_of({"layers.*.attn.q_b.weight"}), {"layers.*.attn.wq_b.weight"});
  expect_message(lora_of({"layers.*.attn_norm.weight"}),
                 {"only matches parameters that are no matrices", "layers.0.attn_norm.weight"});
  expect_message(lora_of({"layers.1.attn.ind?xer.wq_b.weight"}), {"say `indexer`"});
  expect_message(lora_of({}), {"adapter.targets", "is empty"});
  auto lora = lora_of({"attention"});
  lora.rank_pattern = {{"layers.0.*", 2}, {"layers.0.attn.wkv.weight", 1}};
  expect_message(lora, {"adapter.rank_pattern[1].match", "decides for no adapter"});
}

TEST(LoraTargets, OfExpertsShareTheAOfTwoMatrices) {
  expect_message(lora_of({"layers.*.ffn.experts.*.w1.weight"}),
                 {"without layers.0.ffn.experts.*.w3.weight", "experts.*.w?.weight"});
  auto lora = lora_of({"experts"});
  lora.rank_pattern = {{"*.w3.weight", 2}};
  expect_message(lora, {"adapter.rank_pattern", "one rank and one alpha"});
  EXPECT_EQ(lora_a_name("layers.0.ffn.experts.*.w3.weight"),
            "layers.0.ffn.experts.*.w13.lora_A.weight");
  EXPECT_EQ(lora_b_name("layers.0.ffn.experts.*.w3.weight"),
            "layers.0.ffn.experts.*.w3.lora_B.weight");
  EXPECT_EQ(lora_a_name("layers.0.ffn.shared_experts.w3.weight"),
            "layers.0.ffn.shared_experts.w3.lora_A.weight");
  EXPECT_EQ(lora_a_name("layers.0.hc_attn_fn"), "layers.0.hc_attn_fn.lora_A.weight");
}

TEST(LoraTargets, WithDropoutArePlainProducts) {
  auto lora = lora_of({"attention", "experts"});
  lora.dropout = 0.1;
  expect_message(lora, {"adapter.dropout", "experts.*.w1.weight (experts)", "no plain product"});
}

TEST(LoraMatrix, HasTheRankAndAlphaOfTheFirstPatternThatMatches) {
  auto lora = lora_of({"attention"});
  lora.rank_pattern = {{"*.wkv.weight", 4}, {"layers.1.*", 2}};
  lora.alpha_pattern = {{"layers.1.attn.wkv.weight", 8}};
  const auto wkv = lora_matrix(lora, "layers.1.attn.wkv.weight");
  ASSERT_TRUE(wkv);
  EXPECT_EQ(wkv->rank, 4);
  EXPECT_EQ(wkv->scale, 2);
  EXPECT_EQ(lora_matrix(lora, "layers.1.attn.wq_a.weight")->rank, 2);
  EXPECT_EQ(lora_matrix(lora, "layers.0.attn.wq_a.weight")->rank, 3);
  EXPECT_FALSE(lora_matrix(lora, "layers.0.attn.wo_a.weight"));
  lora.rslora = true;
  EXPECT_EQ(lora_matrix(lora, "layers.1.attn.wkv.weight")->scale, 4);
}

TEST(Lora, BeginsAsTheModelWithoutIt) {
  const auto config = adapted_config();
  const auto ids = testing::random_ids(2, 14, config.vocab_size);
  const Transformer plain(config, at::kDouble, 7),
      with(config, at::kDouble, 7, nullptr, {}, at::kCPU, lora_of({"all"}));
  expect_close("logits",
               testing::logits_of(with, ids),
               testing::logits_of(plain, ids),
               {.relative = 1e-14});  // products of several matrices are made apart
  const auto a = parameter(with, "layers.0.ffn.experts.*.w13.lora_A.weight");
  EXPECT_LE(a.abs().max().item<double>(), 1 / std::sqrt(16.0));
  EXPECT_GT(a.abs().max().item<double>(), 0.9 / std::sqrt(16.0));
  EXPECT_FALSE(a[0].equal(a[1]));
  EXPECT_TRUE(parameter(with, "embed.lora_A.weight").eq(0).all().item<bool>());
  EXPECT_GT(parameter(with, "embed.lora_B.weight").abs().max().item<double>(), 1);
}

/// The adapter of every matrix, and what it is with the adapter in it.
struct Merged {
  std::string name;
  at::Tensor a, b;
  double scale;
  bool transposed;  // the embedding

  at::Tensor delta() const {
    const auto product = at::matmul(b, a) * scale;
    return transposed ? product.t() : product;
  }
};

std::vector<Merged> adapters_in(const Transformer& model, const LoraConfig& lora) {
  std::vector<Merged> result;
  for (const auto& each : model.parameters().all()) {
    if (const auto matrix = lora_matrix(lora, each.name)) {
      result.push_back({each.name,
                        parameter(model, matrix->a_name),
                        parameter(model, matrix->b_name),
                        matrix->scale,
                        is_embedding(each.name)});
    }
  }
  return result;
}

at::Tensor loss_of(const Transformer& model, const Tokens& tokens, const PassOptions& options) {
  const auto S = tokens.ids_BS.size(1);
  auto targets = at::full_like(tokens.ids_BS, kIgnoredTarget);
  targets.narrow(1, 0, S - 1).copy_(tokens.ids_BS.narrow(1, 1, S - 1));
  Observations observations;
  const auto hidden = model.forward(tokens, options, &observations);
  const auto mtp = model.mtp_forward(tokens, hidden, options, &observations);
  auto loss = model.cross_entropy_sum(hidden.final_BSD, targets) +
              model.cross_entropy_sum(mtp, mtp_targets(targets, tokens.documents_BS));
  for (const auto& layer : observations.layers) {
    for (const auto& term : {layer.balance_sum, layer.indexer_kl_sum}) {
      loss = term.defined() ? loss + term : loss;
    }
  }
  return loss;
}

const PassOptions kEveryLoss = {.balance_loss = true, .indexer_loss = true};

// Loss, and by the chain rule dB = scale dW A^T and dA = scale B^T dW for every matrix W, where w1
// and w3 of experts share an A.
TEST(Lora, OfEveryMatrixIsTheMergedModelWithItsGradients) {
  const auto config = adapted_config();
  auto lora = lora_of({"all"});
  lora.rank_pattern = {{"*wkv*", 1}, {"*.w2.weight", 2}};
  const auto with = testing::randomized(config, at::kDouble, {}, at::kCPU, lora);
  const auto merged = testing::randomized(config);
  const auto adapters = adapters_in(with, lora);
  for (const auto& adapter : adapters) {
    const at::NoGradGuard no_grad;
    parameter(merged, adapter.name).add_(adapter.delta());
  }
  const auto tokens = whole_documents(testing::random_ids(2, 14, config.vocab_size));
  const auto got = loss_of(with, tokens, kEveryLoss), want = loss_of(merged, tokens, kEveryLoss);
  expect_close("loss", got, want, {.relative = 1e-12});
  got.backward();
  want.backward();
  std::map<std::string, at::Tensor> of_a;  // summed over the matrices that read it
  for (const auto& adapter : adapters) {
    const auto of_w = parameter(merged, adapter.name).grad();
    ASSERT_TRUE(of_w.defined()) << adapter.name;
    const auto d = adapter.transposed ? of_w.t() : of_w;
    expect_close(adapter.name + ", gradient of B",
                 adapter.b.grad(),
                 at::matmul(d, adapter.a.detach().transpose(-1, -2)) * adapter.scale,
                 {.relative = 1e-10});
    const auto da = at::matmul(adapter.b.detach().transpose(-1, -2), d) * adapter.scale;
    auto& sum = of_a[lora_a_name(adapter.name)];
    sum = sum.defined() ? sum + da : da;
  }
  for (const auto& [name, sum] : of_a) {
    expect_close(name + ", gradient", parameter(with, name).grad(), sum, {.relative = 1e-10});
  }
}

// magnitude (W + scale B A) / norms of its rows, which are constants to the gradient.
TEST(Lora, OfDoraIsTheProductOfTheNormedMatrix) {
  const auto named = [](const char* what, at::IntArrayRef sizes) {
    return testing::normal_tensor(what, sizes, at::kDouble).requires_grad_(true);
  };
  const auto floats = testing::normal_tensor("w", {64, 32}, at::kDouble);
  const auto coded = encode_fp8(floats.to(at::kFloat), at::kFloat);
  const Weight codes(coded.values, coded.scales);
  const auto decoded = decode(coded).to(at::kDouble);
  for (const auto& [base, values] : {std::pair{Weight(floats), floats}, {codes, decoded}}) {
    const auto a = named("a", {3, 32}), b = named("b", {64, 3}), m = named("m", {64}),
               x = named("x", {5, 32});
    Linear linear(base);
    linear.set_adapter(std::make_shared<const Lora>(
        "w", a, b, 0.5, std::make_shared<LoraUse>(), LoraMagnitude{m, base}));
    const auto merged = values + 0.5 * at::mm(b, a);
    const auto norms = merged.detach().square().sum(1, true).sqrt();
    const auto want = at::mm(x, (m.unsqueeze(1) * merged / norms).t());
    const auto got = linear.forward(x);
    expect_close("product", got, want, {.relative = 1e-12});
    const auto dy = testing::normal_tensor("dy", {5, 64}, at::kDouble);
    std::vector<at::Tensor> leaves = {a, b, m, x}, of_got, of_want;
    for (auto* gradients : {&of_got, &of_want}) {
      ((gradients == &of_got ? got : want) * dy).sum().backward();
      for (auto& leaf : leaves) {
        gradients->push_back(leaf.grad().clone());
        leaf.mutable_grad().reset();
      }
    }
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      expect_close(text("gradient ", i), of_got[i], of_want[i], {.relative = 1e-12});
    }
  }
}

TEST(Lora, OfDoraBeginsAsTheModelWithoutIt) {
  const auto config = adapted_config();
  auto lora = lora_of({"attention", "*.shared_experts.*", "*.gate.weight", "*.compressor.w*"});
  lora.dora = true;
  const auto ids = testing::random_ids(2, 14, config.vocab_size);
  const Transformer plain(config, at::kDouble, 7),
      with(config, at::kDouble, 7, nullptr, {}, at::kCPU, lora);
  expect_close(
      "logits", testing::logits_of(with, ids), testing::logits_of(plain, ids), {.relative = 1e-12});
  EXPECT_TRUE(is_adapter("layers.0.attn.wq_a.lora_magnitude_vector"));
  EXPECT_EQ(parameter(with, "layers.0.attn.wq_a.lora_magnitude_vector").dim(), 1);
  lora.targets.items = {"layers.*.attn.wo_a.weight"};
  expect_message(lora, {"adapter.dora", "attn.wo_a.weight", "no plain product"});
}

TEST(Lora, SwitchedOffLeavesTheBaseBitForBit) {
  const auto config = adapted_config();
  const auto ids = testing::random_ids(2, 14, config.vocab_size);
  const auto plain = testing::randomized(config),
             with = testing::randomized(config, at::kDouble, {}, at::kCPU, lora_of({"all"}));
  const auto want = testing::logits_of(plain, ids), adapted_logits = testing::logits_of(with, ids);
  {
    const WithoutAdapters base(with);
    expect_bitwise_equal("off", testing::logits_of(with, ids), want);
    { const WithoutAdapters again(with); }
    expect_bitwise_equal("still off", testing::logits_of(with, ids), want);
  }
  EXPECT_FALSE(adapted_logits.equal(want));
  expect_bitwise_equal("on", testing::logits_of(with, ids), adapted_logits);
}

std::vector<at::Tensor> gradients_of(const Transformer& model) {
  std::vector<at::Tensor> gradients;
  for (const auto& each : model.parameters().all()) {
    if (each.value.grad().defined()) {
      gradients.push_back(each.value.grad().clone());
    }
  }
  return gradients;
}

// What is computed again for the backward pass leaves out the same elements.
TEST(Lora, DropoutIsAPureFunctionOfThePassAndRecomputationChangesNoBits) {
  const auto config = adapted_config();
  auto lora = lora_of({"attention", "mtp.0.e_proj.weight"});
  lora.dropout = 0.5;
  const auto model = testing::randomized(config, at::kFloat, {}, at::kCPU, lora);
  const auto tokens = whole_documents(testing::random_ids(2, 14, config.vocab_size));
  const auto run = [&](std::optional<uint64_t> key, int64_t recompute) {
    auto options = kEveryLoss;
    options.recompute_sublayers = recompute;
    options.dropout_key = key;
    testing::clear_gradients(model);
    const auto loss = loss_of(model, tokens, options);
    loss.backward();
    return loss.detach();
  };
  const auto loss = run(1, 0);
  const auto gradients = gradients_of(model);
  EXPECT_FALSE(loss.equal(run(2, 0)));
  EXPECT_FALSE(loss.equal(run({}, 0)));
  for (const int64_t recompute : {1, 2, 3}) {
    expect_bitwise_equal("loss", run(1, recompute), loss);
    const auto again = gradients_of(model);
    ASSERT_EQ(again.size(), gradients.size());
    for (std::size_t i = 0; i < again.size(); ++i) {
      expect_bitwise_equal(text("gradient ", i), again[i], gradients[i]);
    }
  }
}

TEST(Lora, DropoutLeavesOutItsShareAndKeepsTheMean) {
  const auto use = std::make_shared<LoraUse>(LoraUse{.dropout = 0.25, .key = 5});
  const auto one = at::eye(1000, at::kDouble);
  const Lora lora("a", one, one, 1, use);
  const auto y = lora.forward(at::ones({50, 1000}, at::kDouble));
  const double kept = y.gt(0).to(at::kDouble).mean().item<double>();
  EXPECT_NEAR(kept, 0.75, 0.01);  // five standard deviations
  EXPECT_NEAR(y.max().item<double>(), 1 / 0.75, 1e-6);
  use->key.reset();
  expect_bitwise_equal("without", lora.forward(one), one);
}

}  // namespace
}  // namespace braid
