#include "kernels/update.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

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

// Indices of tensors, the largest first: those that share a launch are of like size.
template <class Numel>
std::vector<std::size_t> by_size(std::size_t count, const Numel& numel) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto i, auto k) { return numel(i) > numel(k); });
  return order;
}

// sums[i] = that of tensors[i], on their device; the host does not wait.
at::Tensor sums_on_device(const std::vector<at::Tensor>& tensors) {
  const auto n = static_cast<int64_t>(tensors.size());
  const auto& first = tensors.front();
  const auto wide = first.options().dtype(at::kDouble).requires_grad(false);
  const auto sums = at::empty({n}, wide);
  std::vector<std::size_t> by_kernel;
  for (const auto i : by_size(tensors.size(), [&](auto k) { return tensors[k].numel(); })) {
    if (kernel_of(tensors[i], BRAID_KERNEL(squared_norms)) == Kernel::kPlain) {
      sums[static_cast<int64_t>(i)].copy_(sum_of_squares(tensors[i]));
    } else {
      by_kernel.push_back(i);
    }
  }
  const auto parts = at::empty({SquaredNorms::kMost, kCudaNormParts}, wide);
  for (std::size_t begin = 0; begin < by_kernel.size(); begin += SquaredNorms::kMost) {
    SquaredNorms batch{};
    batch.parts = data<double>(parts);
    for (auto k = begin; k < std::min(by_kernel.size(), begin + SquaredNorms::kMost); ++k) {
      const auto i = by_kernel[k];
      batch.of[batch.count++] = {
          data<float>(tensors[i]), tensors[i].numel(), data<double>(sums) + i};
    }
    queue_kernel<float>(first, BRAID_KERNEL(squared_norms), batch);
  }
  return sums;
}

void require_alike(const AdamWTensors& tensors) {
  const auto& value = tensors.value;
  for (const auto* tensor : {&value, &tensors.grad, &tensors.exp_avg, &tensors.exp_avg_sq}) {
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
}

template <class T>
AdamWProblem<T> problem(const AdamWTensors& tensors, const AdamWMoments& moments) {
  return {tensors.value.numel(),
          data<T>(tensors.value),
          data<T>(tensors.grad),
          data<T>(tensors.exp_avg),
          data<T>(tensors.exp_avg_sq),
          factors<T>(tensors.step, moments)};
}

void update_on_device(const std::vector<AdamWTensors>& each, const AdamWMoments& moments) {
  AdamWBatch batch{};
  const auto queue = [&] {
    if (batch.count > 0) {
      queue_kernel<float>(each.front().value, BRAID_KERNEL(update_by_adamw), batch);
    }
    batch.count = 0;
  };
  for (const auto i : by_size(each.size(), [&](auto k) { return each[k].value.numel(); })) {
    if (kernel_of(each[i].value, BRAID_KERNEL(update_by_adamw)) == Kernel::kPlain) {
      update_by_adamw_reference({each[i]}, moments);
      continue;
    }
    batch.of[batch.count++] = problem<float>(each[i], moments);
    if (batch.count == AdamWBatch::kMost) {
      queue();
    }
  }
  queue();
}

// Matrices of several stacks, or a part of one, whose directions are orthogonalized together.
void update_together(const std::vector<MuonStack>& stacks, const MuonUpdate& update) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> directions;
  for (const auto& [value, gradient, momentum, learning_rate, weight_decay] : stacks) {
    const auto g = gradient * update.gradient_scale;
    directions.push_back(at::Tensor(momentum).mul_(update.momentum).add_(g) * update.momentum + g);
  }
  const auto all_Brc = directions.size() == 1 ? directions.front() : at::cat(directions);
  const auto o_Brc = newton_schulz(all_Brc, update.newton_schulz);
  int64_t first = 0;
  for (const auto& [value, gradient, momentum, learning_rate, weight_decay] : stacks) {
    const auto longest = static_cast<double>(std::max(value.size(1), value.size(2)));
    at::Tensor(value)
        .mul_(1 - learning_rate * weight_decay)
        .sub_(o_Brc.narrow(0, first, value.size(0)),
              learning_rate * update.update_rms * std::sqrt(longest));
    first += value.size(0);
  }
}

// Large stacks go in parts, and small ones together, so that work memory has a bound.
void update_on_device(const std::vector<MuonStack>& stacks, const MuonUpdate& update) {
  constexpr int64_t kTogether = int64_t{1} << 26;  // elements: a quarter of a gigabyte of float32
  const auto& first = stacks.front().value_Brc;
  const int64_t most = std::max<int64_t>(1, kTogether / (first.size(1) * first.size(2)));
  std::vector<MuonStack> together;
  int64_t matrices = 0;
  const auto flush = [&] {
    if (matrices > 0) {
      update_together(together, update);
    }
    together.clear();
    matrices = 0;
  };
  for (const auto& stack : stacks) {
    const int64_t B = stack.value_Brc.size(0);
    for (int64_t begin = 0; begin < B;) {
      const int64_t count = std::min(B - begin, most - matrices);
      const auto part = [&](const at::Tensor& x) { return x.narrow(0, begin, count); };
      together.push_back({part(stack.value_Brc),
                          part(stack.gradient_Brc),
                          part(stack.momentum_Brc),
                          stack.learning_rate,
                          stack.weight_decay});
      begin += count;
      matrices += count;
      if (matrices == most) {
        flush();
      }
    }
  }
  flush();
}

}  // namespace

double squared_norm(const at::Tensor& x) {
  require_summable(x);
  if (!x.is_cpu()) {
    return squared_norms({x}).front();
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
  std::ranges::for_each(tensors, require_summable);
  const auto on_host = sums_on_device(tensors).cpu();
  const double* first = on_host.const_data_ptr<double>();
  return {first, first + on_host.numel()};
}

void update_by_adamw(const std::vector<AdamWTensors>& each, const AdamWMoments& moments) {
  for (const auto& tensors : each) {
    require_alike(tensors);
    mark_written(tensors.value);
  }
  if (each.empty() || !each.front().value.is_cpu()) {
    update_on_device(each, moments);
    return;
  }
  for (const auto& tensors : each) {
    with_wide_type(tensors.value.scalar_type(), [&](auto zero) {
      update_by_adamw_cpu(problem<decltype(zero)>(tensors, moments));
    });
  }
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
    update_on_device(stacks, update);
    return;
  }
  with_wide_type(first.scalar_type(),
                 [&](auto zero) { update_by_muon_cpu(problem<decltype(zero)>(stacks, update)); });
}

}  // namespace braid
