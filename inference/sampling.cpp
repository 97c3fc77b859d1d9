#include "inference/sampling.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/error.h"

namespace braid {
namespace {

// Top-p applies to what top-k left, as a distribution of its own.
at::Tensor cut(const at::Tensor& probabilities_V, const Sampling& sampling) {
  const int64_t V = probabilities_V.numel();
  const auto order_V =
      at::argsort(probabilities_V, /*stable=*/true, /*dim=*/0, /*descending=*/true);
  const auto sorted_V = probabilities_V.index_select(0, order_V);
  const double* sorted = sorted_V.const_data_ptr<double>();
  const int64_t k = sampling.top_k > 0 ? std::min(sampling.top_k, V) : V;
  double total = 0, reached = 0;
  for (int64_t i = 0; i < k; ++i) {
    total += sorted[i];
  }
  int64_t kept = 0;
  while (kept < k && (kept == 0 || sampling.top_p >= 1 || reached < sampling.top_p * total)) {
    reached += sorted[kept++];
  }
  return at::zeros_like(probabilities_V)
      .index_copy(0, order_V.narrow(0, 0, kept), sorted_V.narrow(0, 0, kept) / reached);
}

}  // namespace

void require_valid(const Sampling& sampling) {
  const auto& [temperature, top_k, top_p] = sampling;
  require(temperature == 0 || (temperature >= 1e-6 && temperature <= 100),
          "[sampling] temperature must be 0 or in [1e-6, 100], got ",
          temperature);
  require(top_k >= 0, "[sampling] top_k must be at least 0 (all tokens), got ", top_k);
  require(top_p >= 0 && top_p <= 1, "[sampling] top_p must be in [0, 1], got ", top_p);
}

at::Tensor sampling_probabilities(const at::Tensor& logits_V, const Sampling& sampling) {
  require(logits_V.isfinite().all().item<bool>(),
          "[sampling] the model's logits are not finite, so no token can be drawn; `braid inspect "
          "--verify` tells whether its weights are");
  if (sampling.temperature == 0) {
    auto certain_V = at::zeros(logits_V.sizes(), at::kDouble);
    certain_V.select(0, logits_V.argmax().item<int64_t>()).fill_(1);
    return certain_V;
  }
  const auto probabilities_V = (logits_V.to(at::kDouble) / sampling.temperature).softmax(-1);
  const bool all = sampling.top_k == 0 && sampling.top_p >= 1;
  return all ? probabilities_V : cut(probabilities_V, sampling);
}

int64_t drawn_id(const at::Tensor& probabilities_V, double u) {
  const double* p = probabilities_V.const_data_ptr<double>();
  int64_t last_possible = 0;
  for (int64_t id = 0; id < probabilities_V.numel(); ++id) {
    u -= p[id];
    last_possible = p[id] > 0 ? id : last_possible;
    if (u < 0) {
      return id;
    }
  }
  return last_possible;  // the probabilities' rounded sum may end just below u
}

}  // namespace braid
