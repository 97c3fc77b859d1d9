// Fine-tuning on conversations: rows that they share change nothing, and no step loses one.
#include <map>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/ignored_target.h"
#include "data/sample_parser.h"
#include "tests/support/compare.h"
#include "tests/train/tiny_run.h"
#include "train/language_objective.h"

namespace braid::testing {
namespace {

/// Conversations of one and two turns, with and without reasoning and weights.
std::string conversation(int i) {
  const std::string words(static_cast<std::size_t>(2 + i * 5 % 11), static_cast<char>('a' + i));
  const auto turn = [&](const std::string& answer) {
    return text(R"({"role": "user", "content": ")",
                words,
                R"(?"}, {"role": "assistant", )",
                answer,
                R"("content": ")",
                words,
                i,
                R"("})");
  };
  const std::string first = turn(i % 4 == 1 ? R"("weight": 0.25, )" : "");
  const std::string more =
      i % 2 == 0 ? "" : ", " + turn(i % 3 == 0 ? R"("reasoning_content": "so", )" : "");
  return text(R"({"weight": )", 1 + i % 3, R"(, "messages": [)", first, more, "]}");
}

class ConversationsTest : public TinyRun {
 protected:
  static constexpr int kConversations = 12;
  static constexpr int64_t kSeqLen = 96;

  ConversationsTest() {
    const SampleParser parser(SampleFormat::kMessages, {}, tokenizer_);
    TokenStoreWriter writer(training_store(), tokenizer_, std::string(32, '0'));
    for (int i = 0; i < kConversations; ++i) {
      writer.add(parser.parse(conversation(i)).front());
    }
    writer.commit();
    store_ = std::make_unique<TokenStore>(training_store());
  }

  std::vector<Batch> unpacked() const {
    std::vector<Batch> batches;
    for (int64_t i = 0; i < store_->num_documents(); ++i) {
      const int64_t inputs = store_->num_inputs(i);
      batches.push_back(empty_batch(*store_, {1, inputs}));
      write_row(*store_, {{i, 0, inputs}}, true, 0, batches.back());
    }
    return batches;
  }

  std::vector<Batch> packed() const {
    std::vector<Chunk> chunks;
    for (int64_t i = 0; i < store_->num_documents(); ++i) {
      append_chunks({i, 0, store_->num_inputs(i)}, kSeqLen, chunks);
    }
    const auto rows = pack_best_fit(chunks, kSeqLen);
    std::vector<Batch> batches = {
        empty_batch(*store_, {static_cast<int64_t>(rows.size()), kSeqLen})};
    for (std::size_t b = 0; b < rows.size(); ++b) {
      write_row(*store_, rows[b], true, static_cast<int64_t>(b), batches[0]);
    }
    return batches;
  }

  std::unique_ptr<TokenStore> store_;
};

/// The weighted mean loss of each conversation, by its ids.
std::map<std::vector<int64_t>, double> losses_of(const Transformer& model,
                                                 const std::vector<Batch>& batches) {
  const at::NoGradGuard no_grad;
  std::map<std::vector<int64_t>, double> losses;
  for (const Batch& batch : batches) {
    const auto hidden = model.forward({batch.ids_BS, batch.documents_BS, batch.positions_BS});
    const auto logs_BSV = model.logits(hidden.final_BSD).log_softmax(-1);
    for (int64_t b = 0; b < batch.ids_BS.size(0); ++b) {
      for (int64_t document = 0; document <= batch.documents_BS[b].max().item<int64_t>();
           ++document) {
        const auto mine = (batch.documents_BS[b] == document).nonzero().squeeze(1);
        std::vector<int64_t> ids;
        double nats = 0, weights = 0;
        for (int64_t i = 0; i < mine.size(0); ++i) {
          const int64_t s = mine[i].item<int64_t>();
          ids.push_back(batch.ids_BS[b][s].item<int64_t>());
          const int64_t target = batch.targets_BS[b][s].item<int64_t>();
          if (target != kIgnoredTarget) {
            const double weight = batch.weights_BS[b][s].item<double>();
            nats -= weight * logs_BSV[b][s][target].item<double>();
            weights += weight;
          }
        }
        EXPECT_GT(weights, 0);
        EXPECT_TRUE(losses.emplace(ids, nats / weights).second);
      }
    }
  }
  return losses;
}

TEST_F(ConversationsTest, EachHasTheSameLossInARowWithOthersAndAlone) {
  ASSERT_LT(packed()[0].ids_BS.size(0), kConversations / 2);  // rows are shared
  for (const auto& [dtype, tolerance] : {std::pair{at::kDouble, 1e-12}, {at::kFloat, 1e-6}}) {
    const Transformer model(tiny_model(), dtype, 7);
    const auto alone = losses_of(model, unpacked()), together = losses_of(model, packed());
    ASSERT_EQ(alone.size(), static_cast<std::size_t>(kConversations));
    ASSERT_EQ(together.size(), alone.size());
    for (const auto& [ids, loss] : alone) {
      EXPECT_NEAR(together.at(ids), loss, tolerance * loss);
    }
  }
}

struct Step {
  Losses losses;
  std::vector<NamedTensor> gradients;
};

Step step_of(const Transformer& model, const std::vector<Batch>& batches) {
  const LanguageObjective objective(model);
  LossCounts counts;
  for (const auto& batch : batches) {
    add(counts, objective.counts(batch));
  }
  std::vector<Losses> parts;
  for (const auto& batch : batches) {
    auto loss = objective.loss(batch, counts, {.options = {}, .weights = {.mtp = 0.3}});
    loss.backward();
    parts.push_back(loss.read());
  }
  Step step{sum_over_ranks(parts, *alone()), {}};
  for (const auto& parameter : model.parameters().all()) {
    if (const auto& gradient = parameter.value.grad(); gradient.defined()) {
      step.gradients.push_back({parameter.name, gradient.clone()});
      at::Tensor(parameter.value).mutable_grad() = at::Tensor();
    }
  }
  return step;
}

TEST_F(ConversationsTest, AStepOnPackedRowsIsTheStepOnSeparateOnes) {
  const Transformer model(tiny_model(), at::kDouble, 7);
  const auto together = step_of(model, packed()), apart = step_of(model, unpacked());
  for (const char* loss : {"loss", "mtp_loss"}) {
    EXPECT_NEAR(together.losses.value(loss), apart.losses.value(loss), 1e-12) << loss;
  }
  EXPECT_EQ(together.losses.tokens, apart.losses.tokens);
  ASSERT_EQ(together.gradients.size(), apart.gradients.size());
  for (std::size_t i = 0; i < apart.gradients.size(); ++i) {
    expect_close(apart.gradients[i].name,
                 together.gradients[i].value,
                 apart.gradients[i].value,
                 {.absolute = 1e-12, .relative = 1e-11});
  }
}

TEST_F(ConversationsTest, AnEpochGivesEachOneOnceWhereverItStopsAndGoesOn) {
  const auto loader = [&] { return Loader({{*store_}}, {.seed = 3, .pack_window = 5}); };
  const auto ids_of = [&](const Batch& batch, std::map<std::vector<int64_t>, int>& seen) {
    for (int64_t document = 0; document <= batch.documents_BS.max().item<int64_t>(); ++document) {
      const auto mine = batch.ids_BS.index({batch.documents_BS == document});
      const auto* begin = mine.const_data_ptr<int64_t>();
      ++seen[{begin, begin + mine.numel()}];
    }
  };
  Loader straight = loader();
  int64_t rows = 0;
  for (; straight.progress().epochs[0] < 1; ++rows) {
    straight.next({1, kSeqLen});
  }
  ASSERT_GT(rows, 2);
  for (int64_t stop = 0; stop <= rows; ++stop) {
    std::map<std::vector<int64_t>, int> seen;
    Loader before = loader();
    for (int64_t i = 0; i < stop; ++i) {
      ids_of(before.next({1, kSeqLen}), seen);
    }
    Loader after = loader();
    EXPECT_TRUE(after.restore(before.state()).empty());
    for (int64_t i = stop; i < rows; ++i) {
      ids_of(after.next({1, kSeqLen}), seen);
    }
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(kConversations));
    for (const auto& [ids, times] : seen) {
      EXPECT_EQ(times, 1);
      EXPECT_EQ(ids.front(), tokenizer_.begin_id());
    }
  }
}

}  // namespace
}  // namespace braid::testing
