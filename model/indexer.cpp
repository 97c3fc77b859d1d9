#include "model/indexer.h"

#include <cmath>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/precision.h"
#include "kernels/rope.h"

namespace braid {

Indexer::Indexer(const Scope& scope, const ModelConfig& config, int64_t ratio)
    : num_heads_(config.index_n_heads),
      head_dim_(config.index_head_dim),
      hadamard_HH_(config.qat_indexer == QuantFormat::kOff
                       ? at::Tensor()
                       : hadamard_matrix(head_dim_, at::device(scope.device()).dtype(at::kDouble))),
      qat_use_(scope.qat_use()),
      wq_b_(scope.linear("wq_b.weight", {num_heads_ * head_dim_, config.q_lora_rank})),
      weights_proj_(scope.float_linear("weights_proj.weight", {num_heads_, config.hidden_size})),
      compressor_(scope.inner("compressor"),
                  config.hidden_size,
                  head_dim_,
                  ratio,
                  true,
                  config.rms_norm_eps) {}

IndexParts Indexer::parts(const at::Tensor& qr_BSL,
                          const at::Tensor& h_BSD,
                          const Geometry& geometry,
                          CompressorState* state) const {
  const auto [B, S, D] = sizes<3>(h_BSD);
  const auto& rotation = geometry.compress_rotation;
  IndexParts parts;
  parts.q_BSIH = rope(wq_b_.forward(qr_BSL).view({B, S, num_heads_, head_dim_}),
                      rotation.cos.unsqueeze(2),
                      rotation.sin.unsqueeze(2));
  parts.keys_BCH = compressor_.forward(h_BSD, geometry, state);
  if (hadamard_HH_.defined() && qat_use_->on) {
    parts.q_BSIH = rotated_fp4(parts.q_BSIH);
    parts.keys_BCH = rotated_fp4(parts.keys_BCH);
  }
  const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim_ * num_heads_));
  parts.weight_BSI = widened(weights_proj_.forward(h_BSD)) * scale;
  return parts;
}

at::Tensor Indexer::rotated_fp4(const at::Tensor& x) const {
  const auto wide = widened(x);
  return fake_fp4_activations(at::matmul(wide, hadamard_HH_.to(wide.scalar_type())));
}

}  // namespace braid
