#include "kernels/update.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/run_kernel.h"
#include "kernels/update_cpu.h"
#include "kernels/working_copy.h"

namespace braid {
namespace {

bool is_updatable(const at::Tensor& x) {
  return x.is_contiguous() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble);
}

void require_stack(const at::Tensor& x, const MuonStack& stack, const char* what) {
  const auto& value = stack.value_Brc;
  require(x.dim() == 3 && x.sizes() == value.sizes() && x.scalar_type() == value.scalar_type() &&
              is_updatable(x),
          "[update_by_muon] expected contiguous stacks [B, r, c] in float32 or float64; the value "
          "is ",
          value.scalar_type(),
          " ",
          value.sizes(),
          ", the ",
          what,
          " ",
          x.scalar_type(),
          " ",
          x.sizes());
}

void require_stacks(const std::vector<MuonStack>& stacks) {
  const auto& first = stacks.front().value_Brc;
  for (const auto& stack : stacks) {
    require_stack(stack.value_Brc, stack, "value");
    require_stack(stack.gradient_Brc, stack, "gradient");
    require_stack(stack.momentum_Brc, stack, "momentum");
    require(
        stack.value_Brc.sizes().slice(1) == first.sizes().slice(1) &&
            stack.value_Brc.scalar_type() == first.scalar_type(),
        "[update_by_muon] stacks of one step must have one shape of matrices and one type, got ",
        first.scalar_type(),
        " ",
        first.sizes(),
        " and ",
        stack.value_Brc.scalar_type(),
        " ",
        stack.value_Brc.sizes());
  }
}

void require_summable(const at::Tensor& x) {
  require(is_updatable(x),
          "[squared_norm] expected a contiguous float32 or float64 tensor, got ",
          x.scalar_type(),
          " ",
          x.sizes(),
          x.is_contiguous() ? "" : " with gaps");
}

template <class T>
AdamWFactors<T> factors(const AdamWStep& step, const AdamWMoments& moments) {
  const auto count = static_cast<double>(step.step);
  return {static_cast<T>(moments.beta1),
          static_cast<T>(1 - moments.beta1),
          static_cast<T>(moments.beta2),
          static_cast<T>(1 - moments.beta2),
          static_cast<T>(moments.epsilon),
          static_cast<T>(1 - step.learning_rate * step.weight_decay),
          static_cast<T>(step.learning_rate / (1 - std::pow(moments.beta1, count))),
          static_cast<T>(std::sqrt(1 - std::pow(moments.beta2, count))),
          static_cast<T>(step.gradient_scale)};
}

template <class T>
MuonProblem<T> problem(const std::vector<MuonStack>& stacks, const MuonUpdate& update) {
  const auto& first = stacks.front().value_Brc;
  const int64_t rows = first.size(1), cols = first.size(2), elements = rows * cols;
  const double scale = update.update_rms * std::sqrt(static_cast<double>(std::max(rows, cols)));
  MuonProblem<T> result{{},
                        static_cast<T>(update.momentum),
                        static_cast<T>(update.gradient_scale),
                        {0,
                         rows,
                         cols,
                         newton_schulz_polynomials(update.newton_schulz),
                         update.newton_schulz.bfloat16_products,
                         in_gram_form(rows, cols, update.newton_schulz)}};
  for (const auto& stack : stacks) {
    for (int64_t b = 0; b < stack.value_Brc.size(0); ++b) {
      result.matrices.push_back({data<T>(stack.value_Brc) + b * elements,
                                 data<T>(stack.gradient_Brc) + b * elements,
                                 data<T>(stack.momentum_Brc) + b * elements,
                                 static_cast<T>(1 - stack.learning_rate * stack.weight_decay),
                                 static_cast<T>(stack.learning_rate * scale)});
    }
  }
  result.newton_schulz.count = static_cast<int64_t>(result.matrices.size());
  return result;
}

// float64 []; the host does not wait for it.
at::Tensor sum_on_device(const at::Tensor& x) {
  if (kernel_of(x, BRAID_KERNEL(squared_norm)) == Kernel::kPlain) {
    return sum_of_squares(x);
  }
  const auto sums = at::empty({kCudaNormParts}, x.options().dtype(at::kDouble));
  queue_kernel<float>(x, BRAID_KERNEL(squared_norm), data<float>(x), x.numel(), data<double>(sums));
  return sums.sum();
}

}  // namespace

double squared_norm(const at::Tensor& x) {
  require_summable(x);
  if (!x.is_cpu()) {
    return sum_on_device(x).item<double>();
  }
  double sum = 0;
  with_wide_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    sum = squared_norm_cpu(x.const_data_ptr<T>(), x.numel());
  });
  return sum;
}

std::vector<double> squared_norms(const std::vector<at::Tensor>& tensors) {
  std::vector<double> sums;
  if (tensors.empty() || tensors.front().is_cpu()) {
    for (const auto& x : tensors) {
      sums.push_back(squared_norm(x));
    }
    return sums;
  }
  std::vector<at::Tensor> on_device;
  for (const auto& x : tensors) {
    require_summable(x);
    on_device.push_back(sum_on_device(x));
  }
  const auto on_host = at::stack(on_device).cpu();
  const double* first = on_host.const_data_ptr<double>();
  return {first, first + on_host.numel()};
}

void update_by_adamw(const at::Tensor& value,
                     const at::Tensor& grad,
                     const at::Tensor& exp_avg,
                     const at::Tensor& exp_avg_sq,
                     const AdamWStep& step,
                     const AdamWMoments& moments) {
  for (const auto* tensor : {&value, &grad, &exp_avg, &exp_avg_sq}) {
    require(tensor->sizes() == value.sizes() && tensor->scalar_type() == value.scalar_type() &&
                is_updatable(*tensor),
            "[update_by_adamw] expected contiguous tensors of one shape, all float32 or all "
            "float64; value is ",
            value.scalar_type(),
            " ",
            value.sizes(),
            ", another ",
            tensor->scalar_type(),
            " ",
            tensor->sizes());
  }
  mark_written(value);
  if (kernel_of(value, BRAID_KERNEL(update_by_adamw)) == Kernel::kPlain) {
    update_by_adamw_reference(value, grad, exp_avg, exp_avg_sq, step, moments);
    return;
  }
  with_wide_type(value.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const AdamWProblem<T> p{value.numel(),
                            data<T>(value),
                            data<T>(grad),
                            data<T>(exp_avg),
                            data<T>(exp_avg_sq),
                            factors<T>(step, moments)};
    BRAID_RUN(T, value, update_by_adamw, p);
  });
}

void update_by_muon(const std::vector<MuonStack>& stacks, const MuonUpdate& update) {
  if (stacks.empty()) {
    return;
  }
  require_stacks(stacks);
  for (const auto& stack : stacks) {
    mark_written(stack.value_Brc);
  }
  const auto& first = stacks.front().value_Brc;
  if (kernel_of(first) == Kernel::kPlain) {
    for (const auto& stack : stacks) {
      update_by_muon_reference(stack, update);
    }
    return;
  }
  with_wide_type(first.scalar_type(),
                 [&](auto zero) { update_by_muon_cpu(problem<decltype(zero)>(stacks, update)); });
}

}  // namespace braid
