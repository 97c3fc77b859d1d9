#include "kernels/compress.h"

#include <vector>

#include <ATen/ATen.h>

#include "core/sizes.h"
#include "kernels/autograd.h"
#include "kernels/compress_cpu.h"
#include "kernels/device.h"

namespace braid {
namespace {

enum CompressSaved { kProjected, kApe, kRows, kPrevious, kHasPrevious, kEntries, kLogSumOfGates };

template <class T>
CompressProblem<T> compress_problem(const std::vector<at::Tensor>& saved) {
  const auto &projected = saved[kProjected], &ape = saved[kApe], &rows = saved[kRows];
  const int64_t width = ape.size(1);
  return {data<const T>(projected),
          data<const T>(ape),
          data<const int64_t>(rows),
          data<const int64_t>(saved[kPrevious]),
          data<const bool>(saved[kHasPrevious]),
          rows.size(0),
          projected.size(1),
          rows.size(1),
          rows.size(2),
          saved[kPrevious].defined() ? width / 2 : width,
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
    with_wide_type(projected.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      compress_forward_cpu<T>(compress_problem<T>(saved), data<T>(entries), data<T>(log_sum));
    });
    saved.insert(saved.end(), {entries, log_sum});
    ctx->save_for_backward(saved);
    return entries;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto dentries = gradients[0].contiguous();
    const auto &projected = saved[kProjected], &ape = saved[kApe];
    auto dprojected = at::zeros_like(projected),
         dape_parts = at::zeros({projected.size(0), ape.size(0), ape.size(1)}, ape.options());
    with_wide_type(projected.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      compress_backward_cpu<T>(compress_problem<T>(saved),
                               data<const T>(saved[kEntries]),
                               data<const T>(saved[kLogSumOfGates]),
                               data<const T>(dentries),
                               data<T>(dprojected),
                               data<T>(dape_parts));
    });
    return {dprojected, dape_parts.sum(0), at::Tensor()};  // row numbers have none
  }
};

// The kernel trusts these numbers.
void require_rows(const at::Tensor& rows, int64_t U) {
  require(rows.numel() == 0 || (rows.min().item<int64_t>() >= 0 && rows.max().item<int64_t>() < U),
          "[compress] entries pool rows that do not exist; there are ",
          U);
}

}  // namespace

PooledRows PooledRows::to(at::Device device) const {
  const auto there = [device](const at::Tensor& t) { return t.defined() ? t.to(device) : t; };
  return {rows_BCR.to(device), there(previous_BCR), there(has_previous_BC)};
}

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
  if (kernel_of(projected_BUX) == Kernel::kPlain) {
    return compress_reference(projected_BUX, ape, pooled);
  }
  require_rows(pooled.rows_BCR, U);
  if (previous.defined()) {
    require_rows(previous, U);
  }
  return CompressFunction::apply(projected_BUX, ape, pooled);
}

}  // namespace braid
