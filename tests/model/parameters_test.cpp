#include "model/parameters.h"

#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/random.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

std::map<std::string, at::Tensor> by_name(const Transformer& model) {
  std::map<std::string, at::Tensor> result;
  for (const auto& [name, value] : model.parameters().tensors()) {
    result[name] = value;
  }
  return result;
}

TEST(InitialValues, ArePureFunctionsOfSeedNameAndElement) {
  const auto config = testing::tiny_config();
  const auto tensors = by_name(Transformer(config, at::kDouble, 5));
  for (const auto* name : {"embed.weight",
                           "layers.3.ffn.experts.2.w1.weight",
                           "layers.1.attn.compressor.wkv.weight",
                           "layers.0.hc_attn_fn",
                           "head.weight"}) {
    ASSERT_TRUE(tensors.contains(name)) << name;
    const auto values = tensors.at(name).contiguous().flatten();
    const uint64_t key = random_key(5, name);
    for (int64_t i = 0; i < values.numel(); ++i) {
      ASSERT_EQ(values[i].item<double>(), 0.3 * random_normal(key, i)) << name << ", element " << i;
    }
  }
}

TEST(InitialValues, DoNotDependOnTheRestOfTheModelAndFloat32RoundsThem) {
  auto config = testing::tiny_config();
  const auto small = by_name(Transformer(config, at::kDouble, 5));
  config.n_routed_experts = 7;
  config.num_nextn_predict_layers = 1;
  config.residual = ResidualKind::kPlain;
  const auto other = by_name(Transformer(config, at::kFloat, 5));
  for (const auto* name :
       {"layers.3.ffn.experts.2.w1.weight", "layers.3.attn.wq_a.weight", "norm.weight"}) {
    testing::expect_bitwise_equal(name, other.at(name), small.at(name).to(at::kFloat));
  }
}

TEST(InitialValues, OfAnotherSeedAndOfOtherNamesDiffer) {
  const auto config = testing::tiny_config();
  const auto a = by_name(Transformer(config, at::kDouble, 5)),
             b = by_name(Transformer(config, at::kDouble, 6));
  EXPECT_FALSE(a.at("embed.weight").equal(b.at("embed.weight")));
  EXPECT_FALSE(a.at("embed.weight").equal(a.at("head.weight")));
  EXPECT_FALSE(
      a.at("layers.0.ffn.experts.0.w1.weight").equal(a.at("layers.0.ffn.experts.1.w1.weight")));
}

TEST(InitialValues, OfNormsAreOneAndOfSinksAndBiasesZero) {
  for (const auto& [name, value] : by_name(Transformer(testing::tiny_config(), at::kDouble, 5))) {
    if (name.ends_with("norm.weight")) {
      EXPECT_TRUE(value.equal(at::ones_like(value))) << name;
    } else if (name.ends_with("attn_sink") || name.ends_with(".ape") ||
               name.ends_with("gate.bias")) {
      EXPECT_TRUE(value.equal(at::zeros_like(value))) << name;
    }
  }
}

TEST(Parameters, WithoutValuesHaveTheSameNamesShapesAndTypesAndNoMemory) {
  const auto config = testing::tiny_config();
  const Transformer model(config, at::kFloat, 5);
  {
    const WithoutValues without_values;
    const Transformer shell(config, at::kFloat, 5);
    ASSERT_EQ(shell.parameters().all().size(), model.parameters().all().size());
    for (std::size_t i = 0; i < model.parameters().all().size(); ++i) {
      const auto &got = shell.parameters().all()[i], &want = model.parameters().all()[i];
      EXPECT_EQ(got.name, want.name);
      EXPECT_EQ(got.trained, want.trained) << got.name;
      EXPECT_EQ(got.value.sizes(), want.value.sizes()) << got.name;
      EXPECT_EQ(got.value.scalar_type(), want.value.scalar_type()) << got.name;
      EXPECT_EQ(got.value.requires_grad(), want.value.requires_grad()) << got.name;
      EXPECT_TRUE(got.value.is_meta()) << got.name;
    }
  }
  EXPECT_FALSE(Transformer(config, at::kFloat, 5).parameters().all()[0].value.is_meta());
}

TEST(Parameters, LoadGivesTheValuesBackByReleaseName) {
  const auto config = testing::tiny_config();
  const auto source = testing::randomized(config);
  Transformer target(config, at::kDouble, 99);
  target.parameters().load(source.parameters().tensors(), "memory");
  const auto ids = testing::random_ids(1, 9, config.vocab_size);
  testing::expect_bitwise_equal(
      "logits", testing::logits_of(target, ids), testing::logits_of(source, ids));
}

class LoadRefuses : public ::testing::Test {
 protected:
  LoadRefuses()
      : model_(testing::tiny_config(), at::kDouble, 1), values_(model_.parameters().tensors()) {}

  std::string message() {
    const auto before = model_.parameters().tensors()[0].value.clone();
    try {
      model_.parameters().load(values_, "x.safetensors");
    } catch (const Error& error) {
      testing::expect_bitwise_equal("untouched", model_.parameters().tensors()[0].value, before);
      return error.what();
    }
    ADD_FAILURE() << "loading threw nothing";
    return "";
  }
  static bool has(const std::string& message, const std::string& part) {
    return message.find(part) != std::string::npos;
  }

  Transformer model_;
  std::vector<NamedTensor> values_;
};

TEST_F(LoadRefuses, AMissingTensorByName) {
  values_.erase(values_.begin() + 2);
  const auto name = model_.parameters().tensors()[2].name;
  const auto error = message();
  EXPECT_TRUE(has(error, "x.safetensors") && has(error, "missing: " + name)) << error;
}

TEST_F(LoadRefuses, AnUnexpectedTensorByName) {
  values_.push_back({"layers.9.attn.wq_a.weight", at::zeros({1})});
  const auto error = message();
  EXPECT_TRUE(has(error, "unexpected: layers.9.attn.wq_a.weight")) << error;
}

TEST_F(LoadRefuses, OneUnexpectedInPlaceOfOneMissing) {
  values_[1].name = "misspelt";
  const auto error = message();
  EXPECT_TRUE(has(error, "missing: " + model_.parameters().tensors()[1].name)) << error;
  EXPECT_TRUE(has(error, "unexpected: misspelt")) << error;
}

TEST_F(LoadRefuses, AnotherShapeWithBothShapes) {
  values_[0].value = at::zeros({23, 17}, at::kDouble);
  const auto error = message();
  EXPECT_TRUE(has(error, "embed.weight is [23, 17], the configuration says [23, 16]")) << error;
}

TEST_F(LoadRefuses, ANameThatOccursTwice) {
  values_.push_back(values_[0]);
  const auto error = message();
  EXPECT_TRUE(has(error, "embed.weight occurs twice")) << error;
}

}  // namespace
}  // namespace braid
