// Single modules against the intermediate values of an independent implementation
// (tests/data/README.md).
#include <map>
#include <set>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "checkpoint/names.h"
#include "checkpoint/safetensors.h"
#include "formats/model_json.h"
#include "kernels/index_topk.h"
#include "kernels/precision.h"
#include "kernels/rms_norm.h"
#include "kernels/streams.h"
#include "kernels/weight.h"
#include "model/attention.h"
#include "model/residual.h"
#include "model/transformer.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::Tolerance;

std::string golden(const std::string& name) {
  return std::string(BRAID_TEST_DATA) + "/golden/" + name;
}

// Fills the parameters from a model's tensors, of which they may be a part.
void load_part(Parameters& parameters, const std::vector<NamedTensor>& tensors) {
  std::set<std::string> wanted;
  for (const auto& tensor : parameters.tensors()) {
    wanted.insert(tensor.name);
  }
  std::vector<NamedTensor> part;
  for (const auto& tensor : tensors) {
    if (wanted.contains(tensor.name)) {
      part.push_back(tensor);
    }
  }
  parameters.load(part, "golden");
}

// Measured differences of the golden's own float32 and float64 runs, with a margin (golden README).
struct Tolerances {
  Tolerance activations, mixing, weights;
};
const Tolerances kFloat32 = {
    {.absolute = 5e-5, .relative = 5e-6}, {.absolute = 1e-5}, {.absolute = 1e-5}};
const Tolerances kFloat64 = {{.relative = 1e-12}, {.relative = 1e-12}, {.relative = 1e-12}};

// One case: its model's tensors and the file of one run.
class GoldenCase {
 public:
  GoldenCase(const std::string& name, const std::string& file, at::ScalarType type)
      : config(read_model_json(golden(name + "/config.json"))),
        tensors(release_tensors(SafetensorsFile(golden(name)).views()).tensors),
        ids_BS(SafetensorsFile(golden(name + "/inputs.safetensors")).tensor("input_ids")),
        type_(type),
        tolerances_(type == at::kDouble ? kFloat64 : kFloat32),
        file_(golden(name + "/" + file)) {
    const auto tokens = whole_documents(ids_BS);
    geometry = packed_geometry(config, tokens.documents_BS, tokens.positions_BS, type);
  }

  bool has(const std::string& key) const { return file_.contains(key); }
  at::Tensor operator[](const std::string& key) const { return file_.tensor(key); }

  // Compares where the file has the key; a run does not store everything.
  void check(const std::string& key, const at::Tensor& got) {
    if (has(key)) {
      const auto of_mixing = key.find(".hc_") != std::string::npos && !key.ends_with("collapsed");
      expect_close(key,
                   got,
                   file_.tensor(key),
                   of_mixing                                   ? tolerances_.mixing
                   : key.find(".router.") != std::string::npos ? tolerances_.weights
                                                               : tolerances_.activations);
      ++compared;
    }
  }

  Parameters parameters() const { return {type_, 0, 0.02}; }

  // The streams that enter layer `layer`.
  at::Tensor streams_before(int64_t layer) const {
    if (layer > 0) {
      return file_.tensor(text("layers.", layer - 1, ".streams"));
    }
    for (const auto& [name, value] : tensors) {
      if (name == "embed.weight") {
        const auto embedding = at::embedding(value.to(type_), ids_BS);
        return embedding.unsqueeze(2).repeat({1, 1, config.hc_mult, 1});
      }
    }
    fail("no embedding");
  }

  const ModelConfig config;
  const std::vector<NamedTensor> tensors;
  const at::Tensor ids_BS;
  Geometry geometry;
  int64_t compared = 0;

 private:
  at::ScalarType type_;
  Tolerances tolerances_;
  SafetensorsFile file_;
};

struct Run {
  const char *name, *file;
  at::ScalarType type;
};
void PrintTo(const Run& run, std::ostream* stream) {
  *stream << run.name << "/" << run.file;
}

class GoldenLayers : public ::testing::TestWithParam<Run> {
 protected:
  GoldenLayers() : case_(GetParam().name, GetParam().file, GetParam().type) {}

  at::NoGradGuard no_grad_;
  GoldenCase case_;
};

// Mixing, collapse and norm, attention, expansion, experts: each fed with what came out before it,
// from the stored streams of the layer before.
TEST_P(GoldenLayers, EveryPartOfALayerAgrees) {
  for (int64_t i = 0; i < case_.config.num_hidden_layers; ++i) {
    const auto prefix = text("layers.", i);
    auto parameters = case_.parameters();
    const Scope scope(parameters, prefix);
    const auto hc_attn = make_residual(scope, "hc_attn", case_.config, 2 * i);
    const auto hc_ffn = make_residual(scope, "hc_ffn", case_.config, 2 * i + 1);
    const auto attn_norm = scope.constant("attn_norm.weight", {case_.config.hidden_size}, 1);
    const auto ffn_norm = scope.constant("ffn_norm.weight", {case_.config.hidden_size}, 1);
    const Attention attention(scope.inner("attn"), case_.config, case_.config.layer(i));
    const Moe moe(scope.inner("ffn"), case_.config, case_.config.layer(i).routing);
    load_part(parameters, case_.tensors);

    const auto sublayer = [&](const std::string& name,
                              const std::string& part,
                              const Residual& residual,
                              const at::Tensor& norm,
                              const at::Tensor& X,
                              const auto& forward) {
      const auto entered = residual.enter(X, norm);
      case_.check(prefix + name + ".pre", entered.pre_TM);
      case_.check(prefix + name + ".post", entered.post_TM);
      case_.check(prefix + name + ".comb", entered.mix_TMM);
      case_.check(prefix + name + ".collapsed", collapse_streams(X, entered.pre_TM));
      case_.check(prefix + part + ".in", entered.h_TD);
      const auto out = forward(entered.h_TD);
      case_.check(prefix + part + ".out", out);
      return residual.leave(entered, out);
    };
    Routing routing;
    auto X = case_.streams_before(i);
    X = sublayer(".hc_attn", ".attn", *hc_attn, attn_norm, X, [&](const at::Tensor& h) {
      return attention.forward(h, case_.geometry, {}).y_BSD;
    });
    X = sublayer(".hc_ffn", ".ffn", *hc_ffn, ffn_norm, X, [&](const at::Tensor& x) {
      auto consulted = moe.forward(x, case_.ids_BS);
      routing = consulted.routing;
      return consulted.y_BSD;
    });
    case_.check(prefix + ".streams", X);
    if (case_.has(prefix + ".router.dense_weights")) {  // the order of the choices means nothing
      const auto dense =
          at::zeros_like(routing.scores_TE).scatter(1, routing.experts_TK, routing.weights_TK);
      case_.check(prefix + ".router.dense_weights", dense);
    }
    if (case_.has(prefix + ".router.indices")) {
      EXPECT_TRUE(std::get<0>(routing.experts_TK.sort(-1))
                      .equal(std::get<0>(case_[prefix + ".router.indices"].sort(-1))))
          << prefix << " chooses other experts";
      ++case_.compared;
    }
  }
  EXPECT_GE(case_.compared, 11 * case_.config.num_hidden_layers);
}

// The stored inputs of the attention, where the run has them: compressor, indexer scores and top-k
// sets.
TEST_P(GoldenLayers, CompressorAndIndexerAgree) {
  for (int64_t i = 0; i < case_.config.num_hidden_layers; ++i) {
    const auto layer = case_.config.layer(i);
    const auto prefix = text("layers.", i, ".attn");
    if (!layer.compresses() || !case_.has(prefix + ".in")) {
      continue;
    }
    const auto h = case_[prefix + ".in"];
    const bool overlap = layer.attention == AttentionKind::kCsa;
    auto parameters = case_.parameters();
    const Scope scope(parameters, prefix);
    const Compressor compressor(scope.inner("compressor"),
                                case_.config.hidden_size,
                                case_.config.head_dim,
                                layer.ratio,
                                overlap,
                                case_.config.rms_norm_eps);
    const auto wq_a =
        scope.normal("wq_a.weight", {case_.config.q_lora_rank, case_.config.hidden_size});
    const auto q_norm = scope.constant("q_norm.weight", {case_.config.q_lora_rank}, 1);
    std::optional<Indexer> indexer;
    if (overlap) {
      indexer.emplace(scope.inner("indexer"), case_.config, layer.ratio);
    }
    load_part(parameters, case_.tensors);
    ASSERT_TRUE(case_.has(prefix + ".compressed_kv"));
    case_.check(prefix + ".compressed_kv", compressor.forward(h, case_.geometry, nullptr));
    if (overlap) {
      const auto name = text("layers.", i, ".indexer");
      const auto qr = rms_norm(project(h, wq_a), q_norm, case_.config.rms_norm_eps);
      const auto parts = indexer->parts(qr, h, case_.geometry, nullptr);
      const auto scores = index_scores(parts.q_BSIH, parts.keys_BCH, parts.weight_BSI);
      ASSERT_TRUE(case_.has(name + ".scores") && case_.has(name + ".topk"));
      case_.check(name + ".scores", scores);
      const auto topk = case_[name + ".topk"];  // -1 = none
      const auto chosen =
          at::zeros({h.size(0), h.size(1), scores.size(2) + 1}, at::kBool)
              .scatter(2, topk.where(topk >= 0, at::full({}, scores.size(2), at::kLong)), true);
      const auto& visible = case_.geometry.compression.at(layer.ratio).visible;
      const auto want = chosen.narrow(2, 0, scores.size(2));
      const int64_t k = *case_.config.index_topk;
      EXPECT_TRUE(top_entries(scores, mask_of(visible, scores.size(2)), k).equal(want))
          << name << " selects other entries";
      const auto fused = index_topk(parts.q_BSIH, parts.keys_BCH, parts.weight_BSI, visible, k);
      EXPECT_TRUE(mask_of(SeenEntries{visible, fused}, scores.size(2)).equal(want))
          << name << " selects other entries by blocks";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Runs,
                         GoldenLayers,
                         ::testing::Values(Run{"a_sliding", "golden.safetensors", at::kFloat},
                                           Run{"b_csa", "golden.safetensors", at::kFloat},
                                           Run{"c_hca", "golden.safetensors", at::kFloat},
                                           Run{"e_moe_routing", "golden.safetensors", at::kFloat},
                                           Run{"a_sliding", "golden_f64.safetensors", at::kDouble},
                                           Run{"b_csa", "golden_f64.safetensors", at::kDouble}),
                         [](const auto& test) {
                           return std::string(test.param.name) +
                                  (test.param.type == at::kDouble ? "_float64" : "_float32");
                         });

// What layer i's attention reads, from the stored streams of the layer before.
at::Tensor attention_input(const GoldenCase& golden_case, int64_t i) {
  const at::NoGradGuard no_grad;
  auto parameters = golden_case.parameters();
  const Scope scope(parameters, text("layers.", i));
  const auto residual = make_residual(scope, "hc_attn", golden_case.config, 2 * i);
  const auto norm = scope.constant("attn_norm.weight", {golden_case.config.hidden_size}, 1);
  load_part(parameters, golden_case.tensors);
  const auto X = golden_case.streams_before(i);
  return residual->enter(X, norm).h_TD;
}

// The indexer's loss, its teacher and its gradients, over all visible entries and over the top-k.
TEST(GoldenIndexerLoss, AgreesForBothSetsAndTrainsTheIndexerOnly) {
  const GoldenCase b_csa("b_csa", "golden_f64.safetensors", at::kDouble);
  const SafetensorsFile want(golden("indexer_kl_f64.safetensors"));
  const std::map<std::string, std::string> names = {
      {"wq_b.weight", "q_b_proj.weight"},
      {"weights_proj.weight", "scorer.weights_proj.weight"},
      {"compressor.wkv.weight", "kv_proj.weight"},
      {"compressor.wgate.weight", "gate_proj.weight"},
      {"compressor.ape", "position_bias"},
      {"compressor.norm.weight", "kv_norm.weight"}};
  for (int64_t i = 0; i < b_csa.config.num_hidden_layers; ++i) {
    const auto prefix = text("layers.", i, ".attn");
    auto parameters = b_csa.parameters();
    const Attention attention(Scope(parameters, prefix), b_csa.config, b_csa.config.layer(i));
    load_part(parameters, b_csa.tensors);
    const auto h = attention_input(b_csa, i).requires_grad_(true);
    for (const bool dense : {true, false}) {
      const auto key =
          text("layers.", i, dense ? ".dense" : ".selected", ".B_full_softmax_renormalised.");
      const auto result =
          attention.forward(h, b_csa.geometry, {.dense_attention = dense, .indexer_loss = true});
      const auto loss = result.indexer_kl_sum / (45 - 3);
      expect_close(key, loss, want.tensor(key + "loss"), {.relative = 1e-12});
      for (const auto& parameter : parameters.all()) {
        parameter.value.mutable_grad().reset();
      }
      loss.backward();
      std::size_t compared = 0;
      for (const auto& parameter : parameters.all()) {
        const auto inside = prefix + ".indexer.";
        if (parameter.name.starts_with(inside)) {
          const auto name = key + "grad." + names.at(parameter.name.substr(inside.size()));
          expect_close(name, parameter.value.grad(), want.tensor(name), {.relative = 1e-11});
          ++compared;
        } else {
          EXPECT_FALSE(parameter.value.grad().defined()) << parameter.name;
        }
      }
      EXPECT_EQ(compared, names.size());
      EXPECT_FALSE(h.grad().defined());
    }
  }
}

}  // namespace
}  // namespace braid
