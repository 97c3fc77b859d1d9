#include "kernels/cross_entropy_cpu.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/cross_entropy_loops.h"
#include "kernels/gemm.h"

namespace braid {

at::Tensor cross_entropy_cpu(const at::Tensor& hidden_TD,
                             const at::Tensor& head_VD,
                             const at::Tensor& targets_T,
                             const at::Tensor& weights_T,
                             int64_t logit_bytes,
                             const at::Tensor& dhidden_TD,
                             const at::Tensor& dhead_VD) {
  const auto [T, D] = sizes<2>(hidden_TD);
  const int64_t V = head_VD.size(0);
  const bool gradients = dhidden_TD.defined() || dhead_VD.defined();
  const int64_t chunk =
      std::clamp<int64_t>(logit_bytes / (V * static_cast<int64_t>(head_VD.element_size())),
                          64,
                          std::max<int64_t>(T, 64));
  auto losses_T = at::empty({T}, head_VD.options().requires_grad(false));
  auto buffer = at::empty({std::min(chunk, T), V}, losses_T.options());
  for (int64_t first = 0; first < T; first += chunk) {
    const int64_t rows = std::min(chunk, T - first);
    const auto hidden = hidden_TD.narrow(0, first, rows);
    auto logits = buffer.narrow(0, 0, rows);
    multiply(hidden, head_VD.t(), logits);
    with_wide_type(head_VD.scalar_type(), [&](auto zero) {
      using Wide = decltype(zero);
      const Wide* weights =
          weights_T.defined() ? weights_T.const_data_ptr<Wide>() + first : nullptr;
      parallel_rows(rows, V, [&](int64_t begin, int64_t end) {
        BRAID_CPU(cross_entropy_rows<Wide>)
        (logits.data_ptr<Wide>() + begin * V,
         targets_T.data_ptr<int64_t>() + first + begin,
         weights == nullptr ? nullptr : weights + begin,
         losses_T.data_ptr<Wide>() + first + begin,
         end - begin,
         V,
         gradients);
      });
    });
    if (dhidden_TD.defined()) {
      auto dhidden = dhidden_TD.narrow(0, first, rows);
      multiply(logits, head_VD, dhidden);
    }
    if (dhead_VD.defined()) {
      auto dhead = dhead_VD;
      multiply(logits.t(), hidden, dhead, /*accumulate=*/first > 0);
    }
  }
  return losses_T;
}

}  // namespace braid
