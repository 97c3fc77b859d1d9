// The model against numbers made by an independent implementation (tests/data/README.md).
#include <filesystem>
#include <map>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "checkpoint/names.h"
#include "checkpoint/safetensors.h"
#include "formats/open_model.h"
#include "inference/probe.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::Tolerance;

std::string golden(const std::string& name) {
  return std::string(BRAID_TEST_DATA) + "/golden/" + name;
}

std::map<std::string, at::Tensor> by_name(const std::vector<NamedTensor>& tensors) {
  std::map<std::string, at::Tensor> result;
  for (const auto& [name, value] : tensors) {
    result[name] = value;
  }
  return result;
}

std::map<std::string, at::Tensor> probe_case(const std::string& name,
                                             const std::string& run,
                                             at::ScalarType type,
                                             ProbeOptions options = {.gradients = true}) {
  auto opened = open_model(golden(name), type);
  const SafetensorsFile inputs(golden(name + "/inputs" + run + ".safetensors"));
  return by_name(probe(*opened.model, inputs.tensor("input_ids"), {}, options));
}

// "grad.<HF name>" of a golden file under "grad.<release name>", experts apart.
std::map<std::string, at::Tensor> golden_gradients(const SafetensorsFile& file) {
  std::vector<NamedTensor> gradients;
  for (const auto& name : file.names()) {
    if (name.starts_with("grad.")) {
      gradients.push_back({name.substr(5), file.tensor(name)});
    }
  }
  const auto renamed = release_tensors(gradients);
  EXPECT_TRUE(renamed.unknown.empty());
  std::map<std::string, at::Tensor> result;
  for (const auto& [name, value] : renamed.tensors) {
    result["grad." + name] = value;
  }
  return result;
}

struct Case {
  const char* name;
  const char* run;
};
void PrintTo(const Case& c, std::ostream* stream) {
  *stream << c.name << c.run;
}

class Golden : public ::testing::TestWithParam<Case> {};

TEST_P(Golden, Float64LogitsLossAndEveryGradientAgree) {
  const auto [name, run] = GetParam();
  const auto got = probe_case(name, run, at::kDouble);
  const SafetensorsFile want(golden(std::string(name) + "/golden" + run + "_f64.safetensors"));
  expect_close("logits", got.at("logits"), want.tensor("logits"), {.relative = 1e-12});
  expect_close("loss", got.at("loss"), want.tensor("loss"), {.relative = 1e-12});
  const auto gradients = golden_gradients(want);
  ASSERT_GT(gradients.size(), 20u);
  for (const auto& [key, gradient] : gradients) {
    ASSERT_TRUE(got.contains(key)) << key;
    expect_close(key, got.at(key), gradient, {.relative = 1e-10});
  }
  for (const auto& [key, gradient] : got) {
    if (key.starts_with("grad.") && !gradients.contains(key)) {
      EXPECT_EQ(gradient.abs().max().item<double>(), 0)
          << key << " has a gradient, the golden has none";
    }
  }
}

TEST_P(Golden, Float32StaysWithinRoundingOfFloat64) {
  const auto [name, run] = GetParam();
  const auto got = probe_case(name, run, at::kFloat);
  const SafetensorsFile want(golden(std::string(name) + "/golden" + run + "_f64.safetensors"));
  EXPECT_EQ(got.at("logits").scalar_type(), at::kFloat);
  expect_close(
      "logits", got.at("logits"), want.tensor("logits"), {.absolute = 5e-5, .relative = 5e-6});
  expect_close("loss", got.at("loss"), want.tensor("loss"), {.absolute = 5e-6});
  for (const auto& [key, gradient] : golden_gradients(want)) {
    expect_close(key, got.at(key), gradient, {.absolute = 1e-6, .relative = 5e-5});
  }
}

INSTANTIATE_TEST_SUITE_P(Cases,
                         Golden,
                         ::testing::Values(Case{"a_sliding", ""},
                                           Case{"b_csa", ""},
                                           Case{"c_hca", ""},
                                           Case{"d_mixed", ""},
                                           Case{"e_moe_routing", ""},
                                           Case{"f_odd_lengths", ""},
                                           Case{"f_odd_lengths", "_len2"},
                                           Case{"f_odd_lengths", "_len3"},
                                           Case{"f_odd_lengths", "_len7"},
                                           Case{"g_swiglu_clamp", ""},
                                           Case{"h_yarn_long", ""}),
                         [](const auto& test) {
                           return std::string(test.param.name) + test.param.run;
                         });

TEST(GoldenMtp, LogitsLossesAndGradientsAgree) {
  const auto got = probe_case("mtp", "", at::kFloat, {.gradients = true, .mtp = true});
  const SafetensorsFile want(golden("mtp/golden.safetensors"));
  const Tolerance activations{.absolute = 5e-5, .relative = 5e-6};
  expect_close("logits", got.at("logits"), want.tensor("logits"), activations);
  expect_close("loss", got.at("loss"), want.tensor("main_loss"), {.absolute = 5e-6});
  expect_close("mtp_logits", got.at("mtp_logits"), want.tensor("mtp_logits"), activations);
  expect_close("mtp_loss", got.at("mtp_loss"), want.tensor("mtp_loss"), {.absolute = 5e-6});
  int64_t compared = 0;
  for (const auto& name : want.names()) {
    const std::string mtp = "grad_mtp_loss.", main = "grad_main_loss.";
    if (name.starts_with(mtp)) {
      expect_close(name,
                   got.at("mtp_grad." + name.substr(mtp.size())),
                   want.tensor(name),
                   {.absolute = 1e-6, .relative = 5e-5});
      ++compared;
    } else if (name.starts_with(main)) {
      expect_close(name,
                   got.at("grad." + name.substr(main.size())),
                   want.tensor(name),
                   {.absolute = 1e-6, .relative = 5e-5});
      ++compared;
    }
  }
  EXPECT_GT(compared, 60);
}

TEST(GoldenGeneration, GreedyDecodingGivesTheStoredIds) {
  const at::NoGradGuard no_grad;
  const auto opened = open_model(golden("i_generation"), at::kFloat);
  const SafetensorsFile want(golden("i_generation/golden.safetensors"));
  auto ids_BS = SafetensorsFile(golden("i_generation/inputs.safetensors")).tensor("input_ids");
  DecodeState state;
  std::vector<int64_t> generated;
  for (int64_t step = 0; step < 32; ++step) {
    const auto hidden = opened.model->forward(ids_BS, state);
    const auto logits = opened.model->logits(hidden.final_BSD.select(1, -1));
    expect_close("step",
                 logits,
                 want.tensor("step_logits").select(1, step),
                 {.absolute = 5e-5, .relative = 5e-6});
    ids_BS = logits.argmax(-1, true);
    generated.push_back(ids_BS.item<int64_t>());
  }
  expect_close(
      "ids", at::tensor(generated, at::kLong).unsqueeze(0), want.tensor("generated_ids"), {});
}

}  // namespace
}  // namespace braid
