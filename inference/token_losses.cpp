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

}  // namespace

void visit_token_losses(const Transformer& model,
                        const TokenStore& store,
                        int64_t seq_len,
                        int64_t rows,
                        const ProcessGrid* grid,
                        const TokenLossVisitor& visit) {
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
    const auto nats_BS =
        model.cross_entropy_each(hidden.final_BSD, model.own_share(batch.targets_BS))
            .to(at::kDouble)
            .contiguous();
    const double* nats = nats_BS.const_data_ptr<double>();
    const auto all = world.all_gather(std::vector(nats, nats + nats_BS.numel()), "validation");
    for (std::size_t d = 0; d < size && first + d < batches.size(); ++d) {
      const auto& its_batch = batches[first + d];
      const auto its_rows = static_cast<std::size_t>(its_batch.ids_BS.size(0));
      visit(its_batch, joined(all, d * shares, shares, its_rows));
      Work::did(its_batch.num_targets);
    }
    if (first + size < batches.size() && world.agree_on_interruption("whether to stop")) {
      stop_if_interrupted();
    }
  }
}

std::vector<DocumentScore> document_scores(const Transformer& model,
                                           const TokenStore& store,
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
