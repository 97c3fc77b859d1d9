// Local letters: K rows of fn, base and scale: M of pre, M of post, M * M of the matrix.
#include <ATen/ATen.h>

#include "kernels/mhc.h"
#include "kernels/precision.h"
#include "kernels/rms_norm.h"
#include "kernels/sinkhorn.h"
#include "kernels/streams.h"

namespace braid {
namespace {

at::Tensor projected(const at::Tensor& X_TMD, const at::Tensor& fn, double eps) {
  const auto f = widened(X_TMD).flatten(-2);
  return at::matmul(f, fn.to(f.scalar_type()).t()) * (f.square().mean(-1, true) + eps).rsqrt();
}

at::Tensor normed_input(const at::Tensor& X_TMD,
                        const at::Tensor& pre_TM,
                        const at::Tensor& norm_D,
                        const MhcOptions& options) {
  return rms_norm_reference(collapse_streams_reference(X_TMD, pre_TM), norm_D, options.norm_eps);
}

}  // namespace

EnteredStreams enter_streams_reference(const at::Tensor& X_TMD,
                                       const MhcWeights& weights,
                                       const at::Tensor& norm_D,
                                       const MhcOptions& options) {
  const int64_t M = X_TMD.size(-2);
  const auto m = projected(X_TMD, weights.fn, options.norm_eps);
  const auto base = weights.base_K.to(m.scalar_type()), scale = weights.scale_3.to(m.scalar_type());
  const auto part = [&](int64_t group, int64_t first, int64_t count) {
    return m.narrow(-1, first, count) * scale[group] + base.narrow(0, first, count);
  };
  const auto pre_TM = part(0, 0, M).sigmoid() + options.hc_eps;
  const auto logits_TMM = part(2, 2 * M, M * M).unflatten(-1, {M, M});
  return {normed_input(X_TMD, pre_TM, norm_D, options),
          X_TMD,
          pre_TM.detach(),
          2 * part(1, M, M).sigmoid(),
          sinkhorn_reference(logits_TMM, options.iterations, options.hc_eps)};
}

at::Tensor join_streams_reference(const at::Tensor& X_TMD,
                                  const MhcWeights& weights,
                                  const at::Tensor& norm_D,
                                  const MhcOptions& options) {
  const auto m = projected(X_TMD, weights.fn, options.norm_eps);
  const auto logits = m * weights.scale_3.to(m.scalar_type()) + weights.base_K.to(m.scalar_type());
  return normed_input(X_TMD, logits.sigmoid() + options.hc_eps, norm_D, options);
}

}  // namespace braid
