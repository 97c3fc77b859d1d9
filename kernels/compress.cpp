#include "kernels/compress.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/cpu/compress_loops.h"

namespace braid {
namespace {

constexpr int64_t kChannels = 16;  // of a thread's share of the backward pass: a cache line

enum Saved { kProjected, kApe, kRows, kPrevious, kHasPrevious, kEntries, kLogSum };

template <class T>
PooledSequence<T> sequence(const std::vector<at::Tensor>& saved, int64_t b) {
  const auto &projected = saved[kProjected], &ape = saved[kApe], &rows = saved[kRows],
             &previous = saved[kPrevious];
  const int64_t U = projected.size(1), C = rows.size(1), R = rows.size(2), width = ape.size(1);
  const bool overlap = previous.defined();
  return {projected.const_data_ptr<T>() + b * U * 2 * width,
          ape.const_data_ptr<T>(),
          rows.const_data_ptr<int64_t>() + b * C * R,
          overlap ? previous.const_data_ptr<int64_t>() + b * C * R : nullptr,
          overlap ? saved[kHasPrevious].const_data_ptr<bool>() + b * C : nullptr,
          R,
          overlap ? width / 2 : width,
          width};
}

class CompressFunction : public Function<CompressFunction> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& projected,
                            const at::Tensor& ape,
                            const PooledRows& pooled) {
    const auto contiguous = [](const at::Tensor& t) { return t.defined() ? t.contiguous() : t; };
    std::vector<at::Tensor> saved = {projected.contiguous(),
                                     ape.contiguous(),
                                     pooled.rows_BCR.contiguous(),
                                     contiguous(pooled.previous_BCR),
                                     contiguous(pooled.has_previous_BC)};
    const auto [B, C, R] = sizes<3>(pooled.rows_BCR);
    const int64_t H = pooled.previous_BCR.defined() ? ape.size(1) / 2 : ape.size(1);
    auto entries = at::empty({B, C, H}, projected.options()), log_sum = at::empty_like(entries);
    with_wide_type(projected.scalar_type(), [&, B = B, C = C, R = R](auto zero) {
      using T = decltype(zero);
      for (int64_t b = 0; b < B; ++b) {
        const auto p = sequence<T>(saved, b);
        parallel_rows(C, 4 * R * H, [&](int64_t begin, int64_t end) {
          BRAID_CPU(compress_forward<T>)
          (p, entries.data_ptr<T>() + b * C * H, log_sum.data_ptr<T>() + b * C * H, begin, end);
        });
      }
    });
    saved.insert(saved.end(), {entries, log_sum});
    ctx->save_for_backward(saved);
    return entries;
  }

  // A thread's share is a sequence's channels: whatever rows entries have in common, they are added
  // to in the order of the entries.
  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto dentries = gradients[0].contiguous();
    const auto [B, C, H] = sizes<3>(dentries);
    const auto &projected = saved[kProjected], &ape = saved[kApe];
    auto dprojected = at::zeros_like(projected),
         dape_parts = at::zeros({B, ape.size(0), ape.size(1)}, ape.options());
    const int64_t shares = blocks(H, kChannels);
    with_wide_type(projected.scalar_type(), [&, B = B, C = C, H = H](auto zero) {
      using T = decltype(zero);
      parallel_rows(B * shares, 4 * C * kChannels, [&](int64_t first, int64_t last) {
        for (int64_t share = first; share < last; ++share) {
          const int64_t b = share / shares, begin = share % shares * kChannels;
          BRAID_CPU(compress_backward<T>)
          (sequence<T>(saved, b),
           saved[kEntries].const_data_ptr<T>() + b * C * H,
           saved[kLogSum].const_data_ptr<T>() + b * C * H,
           dentries.const_data_ptr<T>() + b * C * H,
           dprojected.data_ptr<T>() + b * projected.stride(0),
           dape_parts.data_ptr<T>() + b * ape.numel(),
           C,
           begin,
           std::min(H, begin + kChannels));
        }
      });
    });
    return {dprojected, dape_parts.sum(0), at::Tensor()};  // row numbers have none
  }
};

// The kernel reads what it is told to.
void require_rows(const at::Tensor& rows, int64_t U) {
  require(rows.numel() == 0 || (rows.min().item<int64_t>() >= 0 && rows.max().item<int64_t>() < U),
          "[compress] entries pool rows that do not exist; there are ",
          U);
}

}  // namespace

at::Tensor compress(const at::Tensor& projected_BUX,
                    const at::Tensor& ape,
                    const PooledRows& pooled) {
  const auto [B, U, X] = sizes<3>(projected_BUX);
  const auto [B1, C, R] = sizes<3>(pooled.rows_BCR);
  const auto& previous = pooled.previous_BCR;
  const int64_t halves = previous.defined() ? 4 : 2;
  require(B1 == B && X % halves == 0 && ape.sizes() == at::IntArrayRef({R, X / 2}) &&
              ape.scalar_type() == projected_BUX.scalar_type() &&
              (!previous.defined() || (previous.sizes() == pooled.rows_BCR.sizes() &&
                                       pooled.has_previous_BC.sizes() == at::IntArrayRef({B, C}))),
          "[compress] shapes or types do not fit: projected ",
          projected_BUX.scalar_type(),
          " ",
          projected_BUX.sizes(),
          ", ape ",
          ape.scalar_type(),
          " ",
          ape.sizes(),
          ", rows ",
          pooled.rows_BCR.sizes(),
          ", previous ",
          previous.defined() ? previous.sizes() : at::IntArrayRef());
  require_rows(pooled.rows_BCR, U);
  if (previous.defined()) {
    require_rows(previous, U);
  }
  return CompressFunction::apply(projected_BUX, ape, pooled);
}

}  // namespace braid
