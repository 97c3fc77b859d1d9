#include "kernels/index_topk.h"

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/index_topk_cpu.h"
#include "kernels/precision.h"
#include "kernels/run_kernel.h"

namespace braid {

at::Tensor index_topk(const at::Tensor& q_BSIH,
                      const at::Tensor& keys_BCH,
                      const at::Tensor& weight_BSI,
                      const KeyRange& visible,
                      int64_t k) {
  const auto [B, S, I, H] = sizes<4>(q_BSIH);
  const auto [B1, C, H1] = sizes<3>(keys_BCH);
  require(B1 == B && H1 == H && weight_BSI.sizes() == at::IntArrayRef({B, S, I}) && k >= 1 &&
              visible.first_BS.sizes() == at::IntArrayRef({B, S}) &&
              visible.end_BS.sizes() == at::IntArrayRef({B, S}),
          "[index_topk] shapes do not fit: q ",
          q_BSIH.sizes(),
          ", keys ",
          keys_BCH.sizes(),
          ", weights ",
          weight_BSI.sizes(),
          ", visible ",
          visible.first_BS.sizes());
  require(q_BSIH.scalar_type() == keys_BCH.scalar_type(),
          "[index_topk] queries are ",
          q_BSIH.scalar_type(),
          ", keys ",
          keys_BCH.scalar_type(),
          "; expected one type");
  if (kernel_of(q_BSIH, BRAID_KERNEL(index_topk)) == Kernel::kPlain) {
    return index_topk_reference(q_BSIH, keys_BCH, weight_BSI, visible, k);
  }
  const auto q = q_BSIH.detach().contiguous(), keys = keys_BCH.detach().contiguous(),
             weight = widened(weight_BSI.detach()).contiguous();
  const auto first = visible.first_BS.contiguous(), end = visible.end_BS.contiguous();
  auto chosen = at::empty({B, S, k}, first.options());
  with_activation_type(q.scalar_type(), [&, S = S, B = B, I = I, H = H, C = C](auto e, auto t) {
    using E = decltype(e);
    using T = decltype(t);
    const IndexTopkProblem<E, T> problem{data<const E>(q),
                                         data<const E>(keys),
                                         data<const T>(weight),
                                         data<const int64_t>(first),
                                         data<const int64_t>(end),
                                         B,
                                         S,
                                         I,
                                         H,
                                         C,
                                         k};
    if (q.is_cpu()) {
      index_topk_cpu(problem, data<int64_t>(chosen));
      return;
    }
    const int64_t queries = cuda_index_queries(B * S, C);
    const auto scores = at::empty({queries, C}, weight.options());
    const IndexTopkWork work{data<float>(scores), queries};
    queue_kernel<E>(q, BRAID_KERNEL(index_topk), problem, data<int64_t>(chosen), work);
  });
  return chosen;
}

}  // namespace braid
