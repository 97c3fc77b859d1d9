#include "train/generate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "core/random.h"

namespace braid {
namespace {

// Inverse transform: the first id whose cumulated probability exceeds u.
int64_t drawn(const at::Tensor& logits_V, double temperature, double u) {
  if (temperature == 0) {
    return logits_V.argmax().item<int64_t>();
  }
  const auto probabilities = (logits_V.to(at::kDouble) / temperature).softmax(-1);
  const double* p = probabilities.data_ptr<double>();
  int64_t last_possible = 0;
  for (int64_t id = 0; id < probabilities.numel(); ++id) {
    u -= p[id];
    last_possible = p[id] > 0 ? id : last_possible;
    if (u < 0) {
      return id;
    }
  }
  return last_possible;  // the probabilities' rounded sum may end just below u
}

}  // namespace

void generate(const Transformer& model,
              const std::vector<int64_t>& prompt,
              int64_t end_id,
              const GenerateOptions& options,
              const std::function<void(int64_t)>& visit) {
  require(!prompt.empty(), "[generate] the prompt has no tokens");
  const int64_t longest = model.config().max_position_embeddings;
  require(static_cast<int64_t>(prompt.size()) + options.max_tokens <= longest,
          "[generate] ",
          prompt.size(),
          " prompt tokens and ",
          options.max_tokens,
          " new ones exceed the model's max_position_embeddings ",
          longest);
  const at::NoGradGuard no_grad;
  const uint64_t key = random_key(options.seed, "generate");
  DecodeState state;
  auto ids = at::tensor(prompt, at::kLong).unsqueeze(0);
  for (int64_t i = 0; i < options.max_tokens; ++i) {
    const auto hidden = model.forward(ids, state);
    const auto logits_V = model.logits(hidden.final_BSD.select(1, -1)).squeeze(0);
    const int64_t id =
        drawn(logits_V, options.temperature, random_uniform(key, static_cast<uint64_t>(i)));
    if (id == end_id) {
      return;
    }
    visit(id);
    ids = at::full({1, 1}, id, at::kLong);
  }
}

}  // namespace braid
