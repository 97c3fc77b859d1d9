#include "inference/token_losses.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/ignored_target.h"
#include "core/interruption.h"
#include "core/work.h"
#include "run/tokens_of.h"

namespace braid {
namespace {

// One batch's nats [B, S] out of those of its sequences' shares, which follow one another in `all`
// from `first` on.
std::vector<double> joined(const std::vector<std::vector<double>>& all,
                           std::size_t first,
                           std::size_t shares,
                           std::size_t rows) {
  std::vector<double> nats;
  for (std::size_t b = 0; b < rows; ++b) {
    for (std::size_t c = first; c < first + shares; ++c) {
      const auto length = static_cast<std::ptrdiff_t>(all[c].size() / rows);
      const auto row = all[c].begin() + static_cast<std::ptrdiff_t>(b) * length;
      nats.insert(nats.end(), row, row + length);
    }
  }
  return nats;
}

at::Tensor nats_of(const Transformer& model, const Hidden& hidden, const at::Tensor& targets_BS) {
  return model.cross_entropy_each(hidden.final_BSD, targets_BS);
}

// Of targets alone, whose logits exist for some at a time.
at::Tensor is_likeliest(const Transformer& model,
                        const Hidden& hidden,
                        const at::Tensor& targets_BS) {
  constexpr int64_t kTargets = 256;
  const auto targets_T = targets_BS.flatten(), hidden_TD = hidden.final_BSD.flatten(0, 1);
  const auto counted = (targets_T != kIgnoredTarget).nonzero().flatten();
  auto result_T = at::zeros(targets_T.sizes(), at::kDouble);
  for (const auto& some : counted.split(kTargets)) {
    const auto logits = model.logits(hidden_TD.index_select(0, some.to(model.device())));
    result_T.index_copy_(
        0, some, (logits.argmax(-1).cpu() == targets_T.index_select(0, some)).to(at::kDouble));
  }
  return result_T.view(targets_BS.sizes());
}

/// What is known of each target: [B, S], of this rank's tokens.
using OfTokens = at::Tensor (*)(const Transformer& model,
                                const Hidden& hidden,
                                const at::Tensor& targets_BS);

// Each of `wanted` for the batch's whole sequences, one after the other.
using TokenVisitor =
    std::function<void(const Batch& batch, const std::vector<std::vector<double>>& values)>;

void visit_tokens(const Transformer& model,
                  const DocumentStore& store,
                  int64_t seq_len,
                  int64_t rows,
                  const ProcessGrid* grid,
                  const std::vector<OfTokens>& wanted,
                  const TokenVisitor& visit) {
  const at::NoGradGuard no_grad;
  const Work work("tokens evaluated", store.num_targets());
  const auto own = alone();
  auto& world = grid == nullptr ? *own : *grid->world;
  const auto place = grid == nullptr ? GridPlace{} : grid->place;
  const auto batches = evaluation_batches(store, seq_len, rows, place.context_size);
  const auto size = static_cast<std::size_t>(place.data_size),
             shares = static_cast<std::size_t>(place.context_size);
  for (std::size_t first = 0; first < batches.size(); first += size) {
    // Ranks that share a model must run the same number of passes: one that has no batch left
    // repeats the last.
    const auto& batch =
        batches[std::min(first + static_cast<std::size_t>(place.data), batches.size() - 1)];
    const auto hidden = model.forward(tokens_of(batch));
    std::vector<std::vector<std::vector<double>>> all;  // of each wanted, of each rank
    for (const auto of_tokens : wanted) {
      const auto values_BS = of_tokens(model, hidden, model.own_share(batch.targets_BS))
                                 .to(at::kCPU, at::kDouble)
                                 .contiguous();
      const double* values = values_BS.const_data_ptr<double>();
      all.push_back(
          world.all_gather(std::vector(values, values + values_BS.numel()), "validation"));
    }
    for (std::size_t d = 0; d < size && first + d < batches.size(); ++d) {
      const auto& its_batch = batches[first + d];
      const auto its_rows = static_cast<std::size_t>(its_batch.ids_BS.size(0));
      std::vector<std::vector<double>> its_values;
      for (const auto& of_ranks : all) {
        its_values.push_back(joined(of_ranks, d * shares, shares, its_rows));
      }
      visit(its_batch, its_values);
      Work::did(its_batch.num_targets);
    }
    if (first + size < batches.size() && world.agree_on_interruption("whether to stop")) {
      stop_if_interrupted();
    }
  }
}

}  // namespace

void visit_token_losses(const Transformer& model,
                        const DocumentStore& store,
                        int64_t seq_len,
                        int64_t rows,
                        const ProcessGrid* grid,
                        const TokenLossVisitor& visit) {
  visit_tokens(model, store, seq_len, rows, grid, {nats_of}, [&](const auto& batch, auto& values) {
    visit(batch, values[0]);
  });
}

void visit_token_choices(const Transformer& model,
                         const DocumentStore& store,
                         int64_t seq_len,
                         int64_t rows,
                         const ProcessGrid* grid,
                         const TokenChoiceVisitor& visit) {
  visit_tokens(model,
               store,
               seq_len,
               rows,
               grid,
               {nats_of, is_likeliest},
               [&](const auto& batch, auto& values) { visit(batch, values[0], values[1]); });
}

std::vector<DocumentScore> document_scores(const Transformer& model,
                                           const DocumentStore& store,
                                           int64_t seq_len,
                                           int64_t rows,
                                           const ProcessGrid* grid) {
  std::vector<DocumentScore> scores(static_cast<std::size_t>(store.num_documents()));
  const auto add = [&](const Batch& batch, const std::vector<double>& nats) {
    const int64_t S = batch.ids_BS.size(1);
    const int64_t* contexts = batch.documents_BS.const_data_ptr<int64_t>();
    const int64_t* targets = batch.targets_BS.const_data_ptr<int64_t>();
    for (std::size_t i = 0; i < nats.size(); ++i) {
      if (targets[i] == kIgnoredTarget) {
        continue;
      }
      const auto& row = batch.contexts[i / static_cast<std::size_t>(S)];
      const int64_t document = row[static_cast<std::size_t>(contexts[i])].document;
      auto& score = scores[static_cast<std::size_t>(document)];
      score.log_probability -= nats[i];
      ++score.targets;
    }
  };
  visit_token_losses(model, store, seq_len, rows, grid, add);
  return scores;
}

}  // namespace braid
