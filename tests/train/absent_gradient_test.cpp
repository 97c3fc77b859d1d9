// Where a gradient is zero by construction there is none: a parameter that no loss reaches stays,
// and rounding does not move it. In float64, so that any step of noise would show.
#include <algorithm>

#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"

namespace braid {
namespace {

using namespace testing;

struct Weights {
  std::vector<NamedTensor> tensors;
  std::string output;
};

class AbsentGradientTest : public TinyRun {
 protected:
  RunConfig hundred_steps(const std::string& name) const {
    auto run = config(name);
    run.train.dtype = ComputeType::kFloat64;
    run.train.max_steps = 100;
    run.train.global_batch_size = 8;
    run.train.validate_every_steps = 0;
    run.data.validation_fraction = 0;
    run.data.seq_len = 24;
    run.checkpoint.every_steps = 0;
    return run;
  }

  /// The weights of a run, by micro-batches of this size.
  static Weights trained(RunConfig run, int64_t micro_batch_size) {
    run.run.name += text("-", micro_batch_size);
    run.train.micro_batch_size = micro_batch_size;
    const auto output = train(run).output;
    Weights weights{{}, output};
    for (const auto& tensor : load_checkpoint(newest_checkpoint(run)).tensors) {
      if (tensor.name.starts_with("model/")) {
        weights.tensors.push_back({tensor.name.substr(6), tensor.value});
      }
    }
    return weights;
  }

  /// Micro-batches change nothing, and parameters whose names have `unmoved` in them keep their
  /// initial bits. Returns what the run told.
  static std::string expect_no_noise(const RunConfig& run, const std::string& unmoved) {
    const Transformer initial(run.model, at::kDouble, 1);
    const auto want = trained(run, 8);
    for (const int64_t rows : {4, 1}) {
      const auto got = trained(run, rows);
      EXPECT_EQ(got.tensors.size(), want.tensors.size());
      for (std::size_t i = 0; i < want.tensors.size(); ++i) {
        expect_close(text(want.tensors[i].name, ", micro-batches of ", rows),
                     got.tensors[i].value,
                     want.tensors[i].value,
                     {.absolute = 1e-9});
      }
    }
    int64_t count = 0;
    for (const auto& [name, value] : initial.parameters().tensors()) {
      if (name.find(unmoved) == std::string::npos) {
        continue;
      }
      ++count;
      for (const auto& tensor : want.tensors) {
        if (tensor.name == name) {
          expect_bitwise_equal(name, tensor.value, value);
        }
      }
    }
    EXPECT_GT(count, 0) << unmoved;
    return want.output;
  }
};

TEST_F(AbsentGradientTest, RoutersOfOneExpertATokenStay) {
  auto run = hundred_steps("run");
  run.model.num_experts_per_tok = 1;
  run.loss.balance_weight = 0;
  expect_mentions(expect_no_noise(run, "ffn.gate.weight"),
                  {"note: model.num_experts_per_tok is 1",
                   "1 hash layer(s) get no gradient",
                   "3 learned layer(s) get no gradient",
                   "note: no loss of step 1 reaches 4 parameters",
                   "router (3: layers.0.ffn.gate.weight, ...)"});
}

TEST_F(AbsentGradientTest, RoutersOfOneExpertATokenLearnFromTheBalanceLossAlone) {
  auto run = hundred_steps("run");
  run.model.num_experts_per_tok = 1;
  run.train.max_steps = 3;
  expect_mentions(expect_no_noise(run, "layers.0.ffn.gate.weight"),
                  {"3 learned layer(s) get one from the balance loss alone"});
  const std::string name = "layers.1.ffn.gate.weight";
  const Transformer initial(run.model, at::kDouble, 1);
  const auto value_of = [&](const std::vector<NamedTensor>& tensors) {
    return std::ranges::find(tensors, name, &NamedTensor::name)->value;
  };
  EXPECT_FALSE(value_of(trained(run, 2).tensors).equal(value_of(initial.parameters().tensors())));
}

TEST_F(AbsentGradientTest, IndexersWhoseQueriesSeeOneEntryStay) {
  auto run = hundred_steps("run");
  std::string text;  // documents of 5 to 7 tokens: one entry of 4, never two
  for (int i = 0; i < 60; ++i) {
    text += std::string(3 + i % 3, static_cast<char>('a' + i % 7)) + "\n%\n";
  }
  run.data.train = {write("short.txt", text).string()};
  run.loss.indexer_mode = IndexerMode::kSparse;
  expect_mentions(expect_no_noise(run, ".indexer."),
                  {"note: no loss of step 1 reaches", "indexer ("});
}

TEST_F(AbsentGradientTest, IndexersThatChooseOneEntryStay) {
  auto run = hundred_steps("run");
  run.train.max_steps = 10;
  run.model.index_topk = 1;
  run.loss.indexer_mode = IndexerMode::kSparse;
  expect_mentions(expect_no_noise(run, ".indexer."), {"note: model.index_topk is 1"});
}

TEST_F(AbsentGradientTest, APredictorOfWeightZeroStays) {
  auto run = hundred_steps("run");
  run.train.max_steps = 10;
  run.loss.mtp_weight = run.loss.mtp_decay_weight = 0;
  run.loss.balance_weight = 0;
  expect_no_noise(run, "mtp.0.e_proj");
  run.run.name += "-8";
  EXPECT_GT(metrics_of_step(run, 5).at("mtp_loss").get<double>(), 1);  // it is measured
}

}  // namespace
}  // namespace braid
