#include "model/mtp.h"

#include <ATen/ATen.h>

#include "core/ignored_target.h"
#include "kernels/precision.h"
#include "kernels/rms_norm.h"

namespace braid {
namespace {

// values[t + 1] where t + 1 belongs to t's document, `filler` elsewhere.
at::Tensor shifted_within_documents(const at::Tensor& values_BS,
                                    const at::Tensor& documents_BS,
                                    int64_t filler) {
  auto shifted = at::full_like(values_BS, filler);
  const int64_t S = values_BS.size(1);
  if (S > 1) {
    const auto same = documents_BS.narrow(1, 0, S - 1) == documents_BS.narrow(1, 1, S - 1);
    shifted.narrow(1, 0, S - 1)
        .copy_(values_BS.narrow(1, 1, S - 1).masked_fill(same.logical_not(), filler));
  }
  return shifted;
}

}  // namespace

Mtp::Mtp(const Scope& scope, const ModelConfig& config, const ModelRanks& ranks)
    : eps_(config.rms_norm_eps),
      e_proj_(scope.linear("e_proj.weight", {config.hidden_size, config.hidden_size})),
      h_proj_(scope.linear("h_proj.weight", {config.hidden_size, config.hidden_size})),
      enorm_(scope.constant("enorm.weight", {config.hidden_size}, 1)),
      hnorm_(scope.constant("hnorm.weight", {config.hidden_size}, 1)),
      norm_(scope.constant("norm.weight", {config.hidden_size}, 1)),
      block_(scope, config, config.mtp_layer(), config.num_hidden_layers, ranks),
      head_(scope, config) {}

at::Tensor Mtp::input_streams(const at::Tensor& streams_BSMD,
                              const at::Tensor& next_embedding_BSD) const {
  const auto e_BSD = e_proj_.forward(rms_norm(next_embedding_BSD, enorm_, eps_));
  return h_proj_.forward(rms_norm(streams_BSMD, hnorm_, eps_)) + e_BSD.unsqueeze(2);
}

at::Tensor Mtp::forward(const at::Tensor& streams_BSMD,
                        const at::Tensor& next_embedding_BSD,
                        const Pass& pass) const {
  auto X_BSMD = input_streams(streams_BSMD, next_embedding_BSD);
  X_BSMD = block_.attend(X_BSMD, pass);
  return block_.apply_experts(X_BSMD, pass);
}

at::Tensor Mtp::output_hidden(const at::Tensor& X_BSMD) const {
  return head_.forward(X_BSMD, norm_);
}

at::Tensor next_ids(const at::Tensor& ids_BS, const at::Tensor& documents_BS) {
  return shifted_within_documents(ids_BS, documents_BS, 0);
}

at::Tensor mtp_targets(const at::Tensor& targets_BS, const at::Tensor& documents_BS) {
  return shifted_within_documents(targets_BS, documents_BS, kIgnoredTarget);
}

at::Tensor mtp_weights(const at::Tensor& weights_BS, const at::Tensor& documents_BS) {
  return shifted_within_documents(weights_BS, documents_BS, 0);
}

}  // namespace braid
