#include "kernels/expert_rows.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "kernels/autograd.h"
#include "kernels/expert_rows_cpu.h"
#include "kernels/precision.h"
#include "kernels/run_kernel.h"

namespace braid {
namespace {

ExpertRowsProblem rows_problem(const at::Tensor& row_TK, int64_t K, int64_t D) {
  return {row_TK.numel() / K, K, D, data<const int64_t>(row_TK)};
}

bool takes_twin(const at::Tensor& x) {
  return kernel_of(x, BRAID_KERNEL(permute_to_experts)) == Kernel::kPlain;
}

}  // namespace

ExpertBounds::ExpertBounds(at::Tensor bounds_E1, int64_t rows)
    : bounds_E1_(std::move(bounds_E1)),
      rows_(rows),
      on_host_(std::make_shared<std::vector<int64_t>>()) {}

const std::vector<int64_t>& ExpertBounds::on_host() const {
  if (on_host_->empty()) {
    const auto bounds = bounds_E1_.cpu();
    const auto* bound = bounds.const_data_ptr<int64_t>();
    on_host_->assign(bound, bound + bounds.numel());
    require(on_host_->front() == 0 && on_host_->back() == rows_,
            "[routed_experts] an expert of a token is not one of the ",
            experts(),
            " experts; check the model's tid2eid tables");
  }
  return *on_host_;
}

ExpertOrder sorted_by_expert(const at::Tensor& given_TK, int64_t E) {
  const auto* table = device_kernels(given_TK.device().type()).table;
  if (!given_TK.is_cpu() && (table == nullptr || E > kCudaOrderedExperts)) {
    return sorted_by_expert_reference(given_TK, E);
  }
  const auto experts = given_TK.contiguous();
  const int64_t pairs = experts.numel();
  const auto row_TK = at::empty({pairs}, experts.options());
  const auto first = at::empty({E + 1}, experts.options());
  const auto counts =
      at::empty({expert_order_blocks(pairs) + 1, E}, experts.options().dtype(at::kInt));
  const ExpertOrderProblem problem{pairs,
                                   E,
                                   data<const int64_t>(experts),
                                   data<int64_t>(row_TK),
                                   data<int64_t>(first),
                                   data<int32_t>(counts)};
  BRAID_RUN(float, experts, order_by_expert, problem);
  return {row_TK, ExpertBounds(first, pairs)};
}

ExpertRows permute_to_experts(const at::Tensor& given_x,
                              const at::Tensor& given_weights,
                              const at::Tensor& row_TK) {
  if (takes_twin(given_x)) {
    return permute_to_experts_reference(given_x, given_weights, row_TK);
  }
  const auto x = given_x.contiguous(), weights = given_weights.contiguous();
  const int64_t D = x.size(1), R = row_TK.numel();
  ExpertRows result{at::empty({R, D}, x.options()), at::empty({R}, weights.options())};
  with_activation_type(x.scalar_type(), [&](auto e, auto t) {
    using E = decltype(e);
    using T = decltype(t);
    const auto p = rows_problem(row_TK, weights.size(1), D);
    BRAID_RUN(E,
              x,
              permute_to_experts,
              p,
              data<const E>(x),
              data<const T>(weights),
              data<E>(result.rows_RD),
              data<T>(result.weight_R));
  });
  return result;
}

TokenRows permute_to_experts_backward(const ExpertRows& given,
                                      const at::Tensor& row_TK,
                                      int64_t K) {
  if (takes_twin(given.rows_RD)) {
    return permute_to_experts_backward_reference(given, row_TK, K);
  }
  const auto rows = given.rows_RD.contiguous(), weight = given.weight_R.contiguous();
  const int64_t T_ = row_TK.numel() / K, D = rows.size(1);
  TokenRows result{at::empty({T_, D}, rows.options()), at::empty({T_, K}, weight.options())};
  with_activation_type(rows.scalar_type(), [&](auto e, auto t) {
    using E = decltype(e);
    using T = decltype(t);
    const auto p = rows_problem(row_TK, K, D);
    BRAID_RUN(E,
              rows,
              permute_to_experts_backward,
              p,
              data<const E>(rows),
              data<const T>(weight),
              data<E>(result.tokens_TD),
              data<T>(result.weights_TK));
  });
  return result;
}

at::Tensor combine_of_experts(const at::Tensor& given, const at::Tensor& row_TK, int64_t K) {
  if (takes_twin(given)) {
    return combine_of_experts_reference(given, row_TK, K);
  }
  const auto rows = given.contiguous();
  const int64_t D = rows.size(1);
  const auto out = at::empty({row_TK.numel() / K, D}, rows.options().dtype(wide_type(rows)));
  with_activation_type(rows.scalar_type(), [&](auto e, auto t) {
    using E = decltype(e);
    const auto p = rows_problem(row_TK, K, D);
    BRAID_RUN(E, rows, combine_of_experts, p, data<const E>(rows), data<decltype(t)>(out));
  });
  return out;
}

at::Tensor combine_of_experts_backward(const at::Tensor& given,
                                       const at::Tensor& row_TK,
                                       int64_t K,
                                       at::ScalarType type) {
  const auto dout = given.contiguous();
  const int64_t D = dout.size(1);
  const auto drows = at::empty({row_TK.numel(), D}, dout.options().dtype(type));
  if (takes_twin(drows)) {
    return combine_of_experts_backward_reference(given, row_TK, K, type);
  }
  with_activation_type(type, [&](auto e, auto t) {
    using E = decltype(e);
    const auto p = rows_problem(row_TK, K, D);
    BRAID_RUN(
        E, drows, combine_of_experts_backward, p, data<const decltype(t)>(dout), data<E>(drows));
  });
  return drows;
}

}  // namespace braid
