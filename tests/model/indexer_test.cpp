#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/index_topk.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"

namespace braid {
namespace {

at::Tensor mask(std::initializer_list<int64_t> bits) {
  return at::tensor(bits, at::kLong).to(at::kBool).view({1, 1, -1});
}
at::Tensor scores(std::initializer_list<double> values) {
  return at::tensor(values, at::kDouble).view({1, 1, -1});
}

TEST(TopEntries, AreTheVisibleOnesWithTheHighestScores) {
  const auto s = scores({0.1, -2, 5, 3, 4});
  EXPECT_TRUE(top_entries(s, mask({1, 1, 1, 1, 1}), 2).equal(mask({0, 0, 1, 0, 1})));
  EXPECT_TRUE(top_entries(s, mask({1, 1, 0, 1, 0}), 2).equal(mask({1, 0, 0, 1, 0})));
  EXPECT_TRUE(top_entries(s, mask({0, 1, 0, 0, 0}), 2).equal(mask({0, 1, 0, 0, 0})));
  EXPECT_TRUE(top_entries(s, mask({0, 0, 0, 0, 0}), 2).equal(mask({0, 0, 0, 0, 0})));
  EXPECT_TRUE(top_entries(s, mask({1, 1, 0, 1, 1}), 5).equal(mask({1, 1, 0, 1, 1})));
  EXPECT_TRUE(top_entries(s, mask({1, 1, 0, 1, 1}), 9).equal(mask({1, 1, 0, 1, 1})));
}

TEST(TopEntries, OfEqualScoresTakeTheLowerIndex) {
  const auto all = mask({1, 1, 1, 1, 1, 1});
  EXPECT_TRUE(top_entries(scores({0, 0, 0, 0, 0, 0}), all, 3).equal(mask({1, 1, 1, 0, 0, 0})));
  EXPECT_TRUE(top_entries(scores({0, 1, 0, 1, 0, 1}), all, 4).equal(mask({1, 1, 0, 1, 0, 1})));
  EXPECT_TRUE(
      top_entries(scores({-0.0, 0.0, -0.0, 0.0, -1, 0.0}), all, 2).equal(mask({1, 1, 0, 0, 0, 0})));
  // Many equal ones, where an unstable sort would mix them.
  const auto many = at::zeros({1, 1, 1000}, at::kDouble);
  const auto chosen = top_entries(many, at::ones_like(many).to(at::kBool), 300);
  EXPECT_TRUE(chosen.nonzero().select(1, 2).equal(at::arange(300, at::kLong)));
}

TEST(Indexer, WithAtLeastAsManyPicksAsEntriesIsDense) {
  auto config = testing::tiny_config();
  const auto ids = testing::random_ids(2, 26, config.vocab_size);
  config.index_topk.reset();
  const auto dense = testing::logits_of(testing::randomized(config), ids);
  for (const int64_t topk : {6, 7, 1000}) {  // 26 / 4 entries
    config.index_topk = topk;
    testing::expect_bitwise_equal(
        text("top-", topk), testing::logits_of(testing::randomized(config), ids), dense);
  }
  config.index_topk = 2;
  EXPECT_GT(testing::relative_error(testing::logits_of(testing::randomized(config), ids), dense),
            1e-3);
}

TEST(Indexer, GetsNoGradientFromTheLogitsAndEverythingElseDoes) {
  auto config = testing::tiny_config({AttentionKind::kCsa});
  config.num_hash_layers = 0;
  for (const std::optional<int64_t> topk : {std::optional<int64_t>(2), std::optional<int64_t>()}) {
    config.index_topk = topk;
    const auto model = testing::randomized(config);
    testing::logits_of(model, testing::random_ids(2, 26, config.vocab_size))
        .square()
        .sum()
        .backward();
    for (const auto& p : model.parameters().all()) {
      const auto& name = p.name;
      const auto& value = p.value;
      const bool trained = p.trained;
      const bool reached = value.grad().defined() && value.grad().abs().max().item<double>() > 0;
      EXPECT_EQ(reached, trained && name.find(".indexer.") == std::string::npos) << name;
    }
  }
}

}  // namespace
}  // namespace braid
