#include "kernels/attention.h"

#include <vector>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/attention_cpu.h"
#include "kernels/autograd.h"
#include "kernels/precision.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

enum AttentionSaved {
  kQ,
  kKv,
  kCompressed,
  kSink,
  kWindowFirst,
  kWindowEnd,
  kEntryFirst,
  kEntryEnd,
  kChosen,
  kLogSum,
  kOut  // kept for devices: the CPU does without it
};

template <class T>
AttentionProblem<T> attention_problem(const std::vector<at::Tensor>& saved, double scale) {
  const auto &q = saved[kQ], &kv = saved[kKv], &compressed = saved[kCompressed],
             &chosen = saved[kChosen];
  const auto ids = [&](AttentionSaved which) { return data<const int64_t>(saved[which]); };
  return {{ids(kWindowFirst),
           ids(kWindowEnd),
           ids(kEntryFirst),
           ids(kEntryEnd),
           ids(kChosen),
           q.size(0),
           q.size(1),
           q.size(2),
           kv.size(1),
           compressed.size(1),
           chosen.defined() ? chosen.size(2) : 0},
          data<const uint8_t>(q),
          data<const uint8_t>(kv),
          data<const uint8_t>(compressed),
          data<const T>(saved[kSink]),
          q.size(3),
          static_cast<T>(scale),
          q.scalar_type() == at::kBFloat16};
}

template <class E, class T>
void backward_on_device(const AttentionProblem<T>& problem,
                        const std::vector<at::Tensor>& saved,
                        int64_t slots,
                        const AttentionGradients<T>& gradients) {
  if constexpr (!std::is_same_v<E, double>) {  // which has no kernels
    const auto& log_sum = saved[kLogSum];
    const int64_t queries =
        cuda_attention_queries(problem.keys.B * problem.keys.S, slots, problem.H);
    const auto mean = at::empty_like(log_sum),
               added = at::empty({queries, slots, problem.H}, log_sum.options());
    const AttentionResults<T> results{data<uint8_t>(saved[kOut]), data<T>(log_sum)};
    const AttentionWork work{data<float>(mean), data<float>(added), queries, slots};
    queue_kernel<E>(log_sum, BRAID_KERNEL(attention_backward), problem, results, gradients, work);
  }
}

class AttentionFunction : public Function<AttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& q,
                            const at::Tensor& kv,
                            const at::Tensor& compressed,
                            const at::Tensor& sink,
                            const KeyRange& window,
                            const SeenEntries& entries,
                            double scale) {
    std::vector<at::Tensor> saved = {q.contiguous(),
                                     kv.contiguous(),
                                     compressed.contiguous(),
                                     sink.contiguous(),
                                     window.first_BS.contiguous(),
                                     window.end_BS.contiguous(),
                                     entries.range.first_BS.contiguous(),
                                     entries.range.end_BS.contiguous(),
                                     entries.lists()};
    auto o = at::empty_like(saved[kQ]);
    auto log_sum = at::empty({q.size(0), q.size(1), q.size(2)}, q.options().dtype(wide_type(q)));
    with_activation_type(q.scalar_type(), [&](auto e, auto t) {
      using T = decltype(t);
      const auto problem = attention_problem<T>(saved, scale);
      const AttentionResults<T> results{data<uint8_t>(o), data<T>(log_sum)};
      BRAID_RUN(decltype(e), q, attention_forward, problem, results);
    });
    saved.push_back(log_sum);
    saved.push_back(q.is_cpu() ? at::Tensor() : o);
    ctx->save_for_backward(saved);
    ctx->saved_data["scale"] = scale;
    ctx->saved_data["slots"] = window.most_of(kv.size(1)) + entries.most_of(compressed.size(1));
    return o;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const double scale = ctx->saved_data["scale"].toDouble();
    const auto dout = gradients[0].contiguous();
    const auto wide = saved[kSink].options();
    auto dq = at::empty_like(saved[kQ]), dkv = at::zeros(saved[kKv].sizes(), wide),
         dcompressed = at::zeros(saved[kCompressed].sizes(), wide),
         dsink = at::zeros_like(saved[kSink]);
    with_activation_type(dout.scalar_type(), [&](auto e, auto t) {
      using T = decltype(t);
      const auto problem = attention_problem<T>(saved, scale);
      const AttentionGradients<T> results{data<const uint8_t>(dout),
                                          data<uint8_t>(dq),
                                          data<T>(dkv),
                                          data<T>(dcompressed),
                                          data<T>(dsink)};
      if (dout.is_cpu()) {
        attention_backward_cpu<T>(problem, data<const T>(saved[kLogSum]), results);
      } else {
        backward_on_device<decltype(e)>(problem, saved, ctx->saved_data["slots"].toInt(), results);
      }
    });
    return {dq,
            dkv.to(saved[kKv].scalar_type()),
            dcompressed.to(saved[kCompressed].scalar_type()),
            dsink,
            at::Tensor(),
            at::Tensor(),
            at::Tensor()};  // what is seen and the scale have none
  }
};

}  // namespace

at::Tensor attention(const at::Tensor& q_BSNH,
                     const at::Tensor& kv_BUH,
                     const at::Tensor& compressed_BCH,
                     const at::Tensor& sink_N,
                     const KeyRange& window,
                     const SeenEntries& entries,
                     double scale) {
  const auto [B, S, N, H] = sizes<4>(q_BSNH);
  const auto [B1, U, H1] = sizes<3>(kv_BUH);
  const auto [B2, C, H2] = sizes<3>(compressed_BCH);
  const std::vector<int64_t> queries = {B, S};
  const auto& chosen = entries.chosen_BSK;
  require(
      B1 == B && B2 == B && H1 == H && H2 == H && sink_N.sizes() == at::IntArrayRef({N}) &&
          window.first_BS.sizes() == queries && window.end_BS.sizes() == queries &&
          entries.range.first_BS.sizes() == queries && entries.range.end_BS.sizes() == queries &&
          (!chosen.defined() || (chosen.dim() == 3 && chosen.size(0) == B && chosen.size(1) == S)),
      "[attention] shapes do not fit: q ",
      q_BSNH.sizes(),
      ", kv ",
      kv_BUH.sizes(),
      ", compressed ",
      compressed_BCH.sizes(),
      ", sink ",
      sink_N.sizes(),
      ", window ",
      window.first_BS.sizes(),
      ", entries ",
      chosen.defined() ? chosen.sizes() : entries.range.first_BS.sizes());
  const auto kernel = kernel_of(q_BSNH, BRAID_KERNEL(attention_forward));
  if (kernel == Kernel::kPlain || (kernel == Kernel::kCuda && H > kCudaAttentionWidth)) {
    return attention_reference(q_BSNH, kv_BUH, compressed_BCH, sink_N, window, entries, scale);
  }
  if (kernel == Kernel::kCpu) {  // to read the numbers of another device would be to wait for it
    require_keys_exist("attention", window, U, entries, C);
  }
  const auto type = q_BSNH.scalar_type();
  return AttentionFunction::apply(q_BSNH,
                                  kv_BUH.to(type),
                                  compressed_BCH.to(type),
                                  sink_N.to(wide_type(type)),
                                  window,
                                  entries,
                                  scale);
}

}  // namespace braid
