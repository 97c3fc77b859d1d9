// Documents packed into one row are the documents on their own: logits, losses and gradients.
#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/ignored_target.h"
#include "tests/model/support.h"
#include "tests/support/compare.h"

namespace braid {
namespace {

using testing::expect_close;
using testing::random_ids;
using testing::randomized;

struct Placed {
  int64_t row, begin, length;
};

// Documents at odd offsets, shorter than every ratio (1, 2, 3) and longer, with padding behind them
// and without.
const std::vector<Placed> kDocuments = {
    {0, 0, 3}, {0, 3, 9}, {0, 12, 1}, {0, 13, 14}, {1, 0, 17}, {1, 17, 2}, {1, 19, 12}};
constexpr int64_t kRows = 2, kLength = 31;

struct Packed {
  Tokens tokens;
  at::Tensor targets_BS;
};

at::Tensor next_targets(const at::Tensor& ids_BS) {
  const auto ignored = at::full({ids_BS.size(0), 1}, kIgnoredTarget, at::kLong);
  return at::cat({ids_BS.narrow(1, 1, ids_BS.size(1) - 1), ignored}, 1);
}

Packed packed(const at::Tensor& ids_BS) {
  Packed result{{ids_BS, at::full_like(ids_BS, -1), at::zeros_like(ids_BS)},
                at::full_like(ids_BS, kIgnoredTarget)};
  for (std::size_t d = 0; d < kDocuments.size(); ++d) {
    const auto [row, begin, length] = kDocuments[d];
    result.tokens.documents_BS[row].narrow(0, begin, length).fill_(static_cast<int64_t>(d));
    result.tokens.positions_BS[row].narrow(0, begin, length).copy_(at::arange(length, at::kLong));
    result.targets_BS[row]
        .narrow(0, begin, length)
        .copy_(next_targets(ids_BS.narrow(0, row, 1).narrow(1, begin, length))[0]);
  }
  return result;
}

struct Results {
  at::Tensor logits_BSV, mtp_hidden_BSD, main, mtp;
};

Results results_of(const Transformer& model, const Tokens& tokens, const at::Tensor& targets_BS) {
  const auto hidden = model.forward(tokens);
  const auto logits = model.logits(hidden.final_BSD);
  const auto mtp_hidden = model.mtp_forward(tokens, hidden);
  return {logits,
          mtp_hidden,
          model.cross_entropy_sum(hidden.final_BSD, targets_BS),
          model.cross_entropy_sum(mtp_hidden, mtp_targets(targets_BS, tokens.documents_BS))};
}

std::map<std::string, at::Tensor> gradients(const Transformer& model) {
  std::map<std::string, at::Tensor> result;
  for (const auto& p : model.parameters().all()) {
    const auto& name = p.name;
    const auto& value = p.value;
    if (value.grad().defined()) {
      result[name] = value.grad().clone();
    }
  }
  return result;
}

void expect_packing_changes_nothing(const std::string& name, ModelConfig config) {
  config.num_nextn_predict_layers = 1;
  const auto model = randomized(config);
  const auto ids = random_ids(kRows, kLength, config.vocab_size);
  const auto [tokens, targets] = packed(ids);
  const auto together = results_of(model, tokens, targets);
  (together.main + 0.3 * together.mtp).backward();
  const auto want = gradients(model);
  testing::clear_gradients(model);

  auto main = at::zeros({}, at::kDouble), mtp = at::zeros({}, at::kDouble);
  for (const auto& [row, begin, length] : kDocuments) {
    const auto document = ids.narrow(0, row, 1).narrow(1, begin, length);
    const auto alone = results_of(model, whole_documents(document), next_targets(document));
    const auto place = text(name, ", document at ", row, ":", begin);
    expect_close(place,
                 together.logits_BSV.narrow(0, row, 1).narrow(1, begin, length),
                 alone.logits_BSV,
                 {.absolute = 1e-12});
    expect_close(place + " MTP",
                 together.mtp_hidden_BSD.narrow(0, row, 1).narrow(1, begin, length),
                 alone.mtp_hidden_BSD,
                 {.absolute = 1e-12});
    main = main + alone.main;
    mtp = mtp + alone.mtp;
  }
  (main + 0.3 * mtp).backward();
  expect_close(name + " loss", together.main, main, {.relative = 1e-12});
  expect_close(name + " MTP loss", together.mtp, mtp, {.relative = 1e-12});
  const auto got = gradients(model);
  ASSERT_EQ(got.size(), want.size());
  // A scalar of hc sums terms of both signs over all tokens.
  for (const auto& [parameter, gradient] : got) {
    expect_close(text(name, ", gradient of ", parameter),
                 want.at(parameter),
                 gradient,
                 {.absolute = 1e-11, .relative = 1e-12});
  }
}

TEST(Packing, EqualsSeparateDocumentsForEveryLayerKind) {
  for (const auto& [name, layers] : testing::layer_mixes()) {
    expect_packing_changes_nothing(name, testing::tiny_config(layers));
  }
}

TEST(Packing, EqualsSeparateDocumentsForDenseCsaAndEveryResidualKind) {
  auto config = testing::tiny_config();
  config.index_topk.reset();
  expect_packing_changes_nothing("index_topk all", config);
  for (const auto kind : {ResidualKind::kPlain, ResidualKind::kHc}) {
    config = testing::tiny_config();
    config.residual = kind;
    expect_packing_changes_nothing(text("residual ", static_cast<int>(kind)), config);
  }
}

TEST(Packing, WhatPaddingHoldsChangesNothing) {
  const auto config = testing::tiny_config();
  const auto model = randomized(config);
  const auto ids = random_ids(kRows, kLength, config.vocab_size);
  auto other = ids.clone();
  other[0].narrow(0, 27, 4).zero_();
  const auto before = model.forward(packed(ids).tokens).final_BSD;
  const auto after = model.forward(packed(other).tokens).final_BSD;
  expect_close(
      "documents", after[0].narrow(0, 0, 27), before[0].narrow(0, 0, 27), {.absolute = 1e-12});
  EXPECT_TRUE(after.isfinite().all().item<bool>());
}

}  // namespace
}  // namespace braid
