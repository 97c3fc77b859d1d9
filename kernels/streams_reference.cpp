#include <ATen/ATen.h>

#include "kernels/precision.h"
#include "kernels/streams.h"

namespace braid {

at::Tensor collapse_streams_reference(const at::Tensor& X_TMD, const at::Tensor& pre_TM) {
  return (pre_TM.unsqueeze(-1) * widened(X_TMD)).sum(-2).to(X_TMD.scalar_type());
}

at::Tensor expand_streams_reference(const at::Tensor& X_TMD,
                                    const at::Tensor& y_TD,
                                    const at::Tensor& post_TM,
                                    const at::Tensor& mix_TMM) {
  const auto written = post_TM.unsqueeze(-1) * widened(y_TD).unsqueeze(-2);
  const auto mixed = at::matmul(mix_TMM.transpose(-1, -2), widened(X_TMD));
  return (written + mixed).to(X_TMD.scalar_type());
}

}  // namespace braid
