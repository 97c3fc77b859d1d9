#include "train/evaluate.h"

#include <numbers>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "data/loader.h"

namespace braid {

Evaluation evaluate(const Transformer& model,
                    const TokenStore& store,
                    int64_t seq_len,
                    int64_t rows) {
  const at::NoGradGuard no_grad;
  double nats = 0;
  Evaluation result;
  for (const auto& batch : evaluation_batches(store, seq_len, rows)) {
    const auto hidden = model.forward(Tokens{batch.ids_BS, batch.documents_BS, batch.positions_BS});
    nats += model.cross_entropy_sum(hidden.final_BSD, batch.targets_BS).item<double>();
    result.tokens += batch.num_targets;
  }
  result.loss = nats / static_cast<double>(result.tokens);
  result.bits_per_byte = nats / std::numbers::ln2 / static_cast<double>(store.text_bytes());
  return result;
}

}  // namespace braid
