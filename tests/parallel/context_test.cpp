// Sequences divided among ranks are the sequences on one rank: values, losses and gradients.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/ignored_target.h"
#include "parallel/context_exchange.h"
#include "tests/model/support.h"
#include "tests/parallel/ranks.h"
#include "tests/support/compare.h"
#include "tests/support/normal_tensor.h"
#include "train/language_objective.h"

namespace braid {
namespace {

using testing::expect_bitwise_equal;
using testing::expect_close;
using testing::normal_tensor;
using testing::ranks;

// Over all ranks, of a tensor of one shape.
at::Tensor total(const at::Tensor& own) {
  const auto group = ranks().split(0);
  return sum_over({group.get()}, own);
}

TEST(ContextRows, AreCountedForEveryRankThatSendsThem) {
  // Rank 1 needs 3 rows of rank 0; rank 2 needs 3 of rank 1 and 2 of rank 0; rank 3 needs 1 of rank
  // 0.
  EXPECT_EQ(rows_sent_before(3, {0, 3, 5, 7}), (std::vector<int64_t>{6, 6, 3, 0}));
  EXPECT_EQ(rows_sent_before(4, {0, 2, 2}), (std::vector<int64_t>{2, 2, 0}));
  EXPECT_EQ(rows_sent_before(5, {0}), (std::vector<int64_t>{0}));
}

TEST(ContextExchange, BringsTheRowsBeforeAShareAndTheirGradientsBack) {
  constexpr int64_t B = 2, S = 3, X = 5;
  const auto group = ranks().split(0);
  const ContextRanks context{group.get()};
  const int64_t N = group->size(), own = group->rank();
  const auto whole = normal_tensor("x", {B, N * S, X});
  for (const int64_t most : {1, 2, 3, 4, 7, 1000}) {
    // Each rank another number, at most what there is.
    std::vector<int64_t> rows_before;
    for (int64_t r = 0; r < N; ++r) {
      rows_before.push_back(std::min(r * S, most - r % 2));
    }
    const auto before = rows_before[static_cast<std::size_t>(own)];
    const auto x = context.own_share(whole).clone().requires_grad_(true);
    const int64_t sent_before = group->bytes_sent();
    const auto y = with_rows_before(context, x, rows_before);
    expect_bitwise_equal("rows", y.detach(), whole.narrow(1, own * S - before, before + S));
    const auto gradient = [&](int64_t r) {
      return normal_tensor(text("dy ", r), {B, rows_before[static_cast<std::size_t>(r)] + S, X});
    };
    y.backward(gradient(own));
    auto want = at::zeros_like(whole);
    int64_t there = 0, back = before;
    for (int64_t r = 0; r < N; ++r) {
      const auto count = rows_before[static_cast<std::size_t>(r)];
      want.narrow(1, r * S - count, count + S).add_(gradient(r));
      // What rank r needs of this rank's rows.
      there += r <= own ? 0 : std::clamp((own + 1) * S - (r * S - count), int64_t{0}, S);
    }
    expect_close("gradient", x.grad(), context.own_share(want), {.relative = 1e-15});
    EXPECT_EQ(group->bytes_sent() - sent_before, (there + back) * B * X * 8);
  }
}

TEST(ContextExchange, GathersAnyNumberOfRowsAndSumsTheirGradients) {
  constexpr int64_t X = 5;
  const auto group = ranks().split(0);
  const ContextRanks context{group.get()};
  const int64_t N = group->size(), own = group->rank();
  for (const auto& pattern : {std::vector<int64_t>{4}, {0, 3}, {2, 0, 0, 7}, {0}}) {
    std::vector<int64_t> rows;
    std::vector<at::Tensor> parts;
    for (int64_t r = 0; r < N; ++r) {
      rows.push_back(pattern[static_cast<std::size_t>(r) % pattern.size()]);
      parts.push_back(normal_tensor(text("x ", r), {rows.back(), X}));
    }
    const auto whole = at::cat(parts);
    const auto x = parts[static_cast<std::size_t>(own)].clone().requires_grad_(true);
    const int64_t sent_before = group->bytes_sent();
    const auto y = rows_of_all(context, x, rows);
    expect_bitwise_equal("rows", y.detach(), whole);
    y.backward(normal_tensor(text("dy ", own), whole.sizes()));
    auto want = at::zeros_like(whole);
    for (int64_t r = 0; r < N; ++r) {
      want.add_(normal_tensor(text("dy ", r), whole.sizes()));
    }
    expect_close("gradient",
                 x.grad(),
                 want.split_with_sizes(rows)[static_cast<std::size_t>(own)],
                 {.relative = 1e-15});
    // Own rows to every other rank, and the gradients of all others' rows to them.
    const int64_t there = (N - 1) * rows[static_cast<std::size_t>(own)],
                  back = whole.size(0) - rows[static_cast<std::size_t>(own)];
    EXPECT_EQ(group->bytes_sent() - sent_before, (there + back) * X * 8);
  }
}

// Rows that are packed with documents of these lengths, padding behind them.
struct Sequences {
  Tokens tokens;
  at::Tensor targets_BS;
};

Sequences packed(const std::vector<std::vector<int64_t>>& lengths, int64_t S, int64_t vocabulary) {
  const auto B = static_cast<int64_t>(lengths.size());
  const auto ids = testing::random_ids(B, S, vocabulary);
  Sequences result{{ids, at::full_like(ids, -1), at::zeros_like(ids)},
                   at::full_like(ids, kIgnoredTarget)};
  for (int64_t b = 0; b < B; ++b) {
    int64_t begin = 0, document = 0;
    for (const int64_t wanted : lengths[static_cast<std::size_t>(b)]) {
      const int64_t length = std::min(wanted, S - begin);
      result.tokens.documents_BS[b].narrow(0, begin, length).fill_(document++);
      result.tokens.positions_BS[b].narrow(0, begin, length).copy_(at::arange(length, at::kLong));
      if (length > 1) {
        result.targets_BS[b]
            .narrow(0, begin, length - 1)
            .copy_(ids[b].narrow(0, begin + 1, length - 1));
      }
      begin += length;
    }
  }
  return result;
}

struct Results {
  at::Tensor hidden_BSD, mtp_hidden_BSD;  // this rank's tokens
  Losses losses;                          // its share
  at::Tensor gradients;                   // of all parameters that have one, one behind the other
};

constexpr LossWeights kWeights = {.mtp = 0.3, .balance = 0.5, .indexer = 0.7};

Results results_of(const Transformer& model,
                   const Sequences& given,
                   const PassOptions& options,
                   const LossWeights& weights = kWeights) {
  const LanguageObjective objective(model);
  const Batch batch{.ids_BS = given.tokens.ids_BS,
                    .targets_BS = given.targets_BS,
                    .documents_BS = given.tokens.documents_BS,
                    .positions_BS = given.tokens.positions_BS};
  Results results;
  const auto hidden = model.forward(given.tokens, options);
  results.hidden_BSD = hidden.final_BSD.detach();
  results.mtp_hidden_BSD = model.mtp_forward(given.tokens, hidden, options).detach();
  auto loss =
      objective.loss(batch, objective.counts(batch), {.options = options, .weights = weights});
  testing::clear_gradients(model);
  loss.backward();
  results.losses = loss.read();
  std::vector<at::Tensor> gradients;
  for (const auto& p : model.parameters().all()) {
    const auto& value = p.value;
    if (value.grad().defined()) {
      gradients.push_back(value.grad().flatten());
    }
  }
  results.gradients = at::cat(gradients);
  return results;
}

// A model on one rank, and the same on all.
class Divided {
 public:
  explicit Divided(ModelConfig config) : group_(ranks().split(0)), context_{group_.get()} {
    config.num_nextn_predict_layers = 1;
    alone_ = std::make_unique<Transformer>(testing::randomized(config));
    together_ = std::make_unique<Transformer>(
        testing::randomized(config, at::kDouble, {.experts = {}, .context = context_}));
  }

  const Transformer& together() const { return *together_; }

  void expect_same(const std::string& name,
                   const Sequences& given,
                   const PassOptions& options = {},
                   const LossWeights& weights = kWeights) const {
    const auto want = results_of(*alone_, given, options, weights),
               got = results_of(*together_, given, options, weights);
    const auto near = [&](const std::string& what, const at::Tensor& a, const at::Tensor& b) {
      expect_close(name + ", " + what, a, b, {.absolute = 1e-12, .relative = 1e-12});
    };
    const auto own = [&](const at::Tensor& whole) { return context_.own_share(whole); };
    near("hidden states", got.hidden_BSD, own(want.hidden_BSD));
    near("MTP hidden states", got.mtp_hidden_BSD, own(want.mtp_hidden_BSD));
    const auto numbers = [](Losses losses) {
      losses.load_E.clear();  // compared below
      return at::tensor(losses.numbers(), at::kDouble);
    };
    near("losses", total(numbers(got.losses)), numbers(want.losses));
    for (std::size_t i = 0; i < want.losses.load_E.size(); ++i) {
      expect_bitwise_equal("load", total(got.losses.load_E[i]), want.losses.load_E[i]);
    }
    near("gradients", total(got.gradients), want.gradients);
  }

 private:
  std::unique_ptr<Communicator> group_;
  ContextRanks context_;
  std::unique_ptr<Transformer> alone_, together_;
};

// A boundary at every place within 8 tokens of a cut, so at every offset to the ratios, and
// documents behind it that are shorter than every ratio. With shares of 8 and of 3 tokens: windows,
// compressor windows and single HCA entries span several ranks.
TEST(Context, EqualsOneRankForEveryPlaceOfADocumentBoundary) {
  const int64_t N = ranks().size();
  for (const auto& [name, layers] : testing::layer_mixes()) {
    const Divided model(testing::tiny_config(layers));
    // The short ones only with all kinds together: half the time.
    for (const int64_t share :
         layers.size() > 2 ? std::vector<int64_t>{8, 3} : std::vector<int64_t>{8}) {
      const int64_t S = share * N, cut = share * (N / 2);
      for (int64_t place = std::max<int64_t>(1, cut - 8); place <= std::min(S, cut + 8); ++place) {
        const auto given = packed({{place, 3, 1, 2, S}, {S - place + 1, 2, S - 3}}, S, 23);
        model.expect_same(text(name, ", share ", share, ", boundary at ", place), given);
      }
    }
  }
}

TEST(Context, EqualsOneRankWithPaddingAndWithoutAnyEntry) {
  const int64_t N = ranks().size();
  const Divided model(testing::tiny_config());
  model.expect_same("padding", packed({{5, 2}, {7 * N}, {1}}, 8 * N, 23));
  model.expect_same("no entries", packed({{3, 3, 2}, {1}}, 4 * N, 23));
}

TEST(Context, EqualsOneRankForDenseAttentionAndEveryEntry) {
  const int64_t N = ranks().size();
  const auto given = packed({{11, 30}, {4, 100}}, 12 * N, 23);
  Divided(testing::tiny_config()).expect_same("dense", given, {.dense_attention = true});
  Divided(testing::tiny_config())
      .expect_same("without the indexers' loss", given, {}, {.mtp = 0.3, .balance = 0.5});
  auto config = testing::tiny_config();
  config.index_topk.reset();
  config.sliding_window = 40;
  Divided(config).expect_same("all entries, a long window", given);
}

// Of a CSA layer, window 5 and ratio 4: four raw keys; keys and gates of the window before the
// first one, in both compressors; and every entry to every other rank.
TEST(Context, SendsNoMoreThanTheRowsThatAreNeeded) {
  const auto config = testing::tiny_config({AttentionKind::kCsa});
  const auto group = ranks().split(0);
  const auto model =
      testing::randomized(config, at::kDouble, {.experts = {}, .context = {group.get()}});
  const int64_t N = group->size(), H = config.head_dim, I = config.index_head_dim, share = 16;
  const int64_t sent_before = group->bytes_sent();
  const at::NoGradGuard no_grad;
  model.forward(packed({{share * N}}, share * N, config.vocab_size).tokens);
  const int64_t to_the_right = group->rank() + 1 < N ? 4 * H + 4 * 4 * H + 4 * 4 * I : 0;
  const int64_t to_all = (N - 1) * share / 4 * (H + I);
  EXPECT_EQ(group->bytes_sent() - sent_before, (to_the_right + to_all) * 8);
}

// The exchanges of a segment happen again, in the same order on every rank.
TEST(Context, RecomputationChangesNoBits) {
  const Divided model(testing::tiny_config());
  const auto given = packed({{9, 50}}, 8 * ranks().size(), 23);
  const auto want = results_of(model.together(), given, {});
  for (const int64_t sublayers : {1, 3, 100}) {
    const auto got = results_of(model.together(), given, {.recompute_sublayers = sublayers});
    expect_bitwise_equal(text(sublayers, " sublayers"), got.gradients, want.gradients);
  }
}

}  // namespace
}  // namespace braid
