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
  const auto type = wide_type(q_BSIH);
  const auto kernel = kernel_of(q_BSIH.device(), type, BRAID_KERNEL(index_topk));
  if (kernel == Kernel::kPlain) {
    return index_topk_reference(q_BSIH, keys_BCH, weight_BSI, visible, k);
  }
  const auto read = [&](const at::Tensor& x) {
    return (kernel == Kernel::kCpu ? x : x.to(type)).detach().contiguous();
  };
  const auto q = read(q_BSIH), keys = read(keys_BCH), weight = weight_BSI.detach().contiguous();
  const auto first = visible.first_BS.contiguous(), end = visible.end_BS.contiguous();
  auto chosen = at::empty({B, S, k}, first.options());
  const auto run = [&, S = S, B = B, I = I, H = H, C = C](auto e, auto t, const auto& with) {
    using E = decltype(e);
    using T = decltype(t);
    with(IndexTopkProblem<E, T>{data<const E>(q),
                                data<const E>(keys),
                                data<const T>(weight),
                                data<const int64_t>(first),
                                data<const int64_t>(end),
                                B,
                                S,
                                I,
                                H,
                                C,
                                k});
  };
  if (kernel == Kernel::kCpu) {
    with_activation_type(q.scalar_type(), [&](auto e, auto t) {
      run(e, t, [&](const auto& problem) { index_topk_cpu(problem, data<int64_t>(chosen)); });
    });
  } else {
    const int64_t queries = cuda_index_queries(B * S, C);
    const auto scores = at::empty({queries, C}, q.options());
    const IndexTopkWork work{data<float>(scores), queries};
    run(float{}, float{}, [&](const auto& problem) {
      queue_kernel<float>(q, BRAID_KERNEL(index_topk), problem, data<int64_t>(chosen), work);
    });
  }
  return chosen;
}

}  // namespace braid
