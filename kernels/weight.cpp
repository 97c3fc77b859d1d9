// Local letters: I inputs and O outputs of a matrix.
#include "kernels/weight.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/pages.h"
#include "kernels/autograd.h"
#include "kernels/codec_cpu.h"
#include "kernels/fp4_products.h"
#include "kernels/gemm.h"
#include "kernels/precision.h"
#include "kernels/weight_cpu.h"

namespace braid {
namespace {

// x W^T with W the rows [first_row, first_row + rows) of quantized weights.
class QuantizedProduct : public Function<QuantizedProduct> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& x_TI,
                            const Weight& weight,
                            int64_t first_row,
                            int64_t rows) {
    ctx->saved_data["values"] = weight.values;
    ctx->saved_data["scales"] = weight.scales;
    ctx->saved_data["place"] = static_cast<int64_t>(weight.place);
    ctx->saved_data["first_row"] = first_row;
    auto out_TO = at::empty({x_TI.size(0), rows}, x_TI.options());
    multiply_each_quantized({{x_TI.contiguous(), weight, out_TO, first_row}});
    return out_TO;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const Weight weight(ctx->saved_data["values"].toTensor(),
                        ctx->saved_data["scales"].toTensor(),
                        static_cast<WeightPlace>(ctx->saved_data["place"].toInt()));
    const auto dy_TO = gradients[0].contiguous();
    auto dx_TI = at::empty({dy_TO.size(0), weight.columns()}, dy_TO.options());
    multiply_each_quantized({{dy_TO,
                              weight,
                              dx_TI,
                              ctx->saved_data["first_row"].toInt(),
                              /*by_columns=*/true}});
    return {dx_TI, at::Tensor(), at::Tensor(), at::Tensor()};  // the weight is frozen
  }
};

// Group by group, straight from and into the rows that hold all groups.
class GroupedLinear : public Function<GroupedLinear> {
 public:
  static at::Tensor forward(AutogradContext* ctx,
                            const at::Tensor& given_TGI,
                            const at::Tensor& w,
                            const WorkingCopy& copy) {
    const auto x_TGI = given_TGI.contiguous();
    const auto operand = copy.operand_for(x_TGI, w);
    ctx->save_for_backward({x_TGI, w, operand});
    const int64_t G = x_TGI.size(1), rows = w.size(0) / G;
    auto y_TGO = at::empty({x_TGI.size(0), G, rows}, x_TGI.options());
    std::vector<MatrixProduct> products;
    for (int64_t group = 0; group < G; ++group) {
      products.push_back({x_TGI.select(1, group),
                          operand.narrow(0, group * rows, rows).t(),
                          y_TGO.select(1, group)});
    }
    multiply_each(products);
    return y_TGO;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &x_TGI = saved[0], &w = saved[1], &operand = saved[2];
    const auto dy_TGO = gradients[0].contiguous();
    const int64_t G = x_TGI.size(1), rows = w.size(0) / G;
    auto dx_TGI = at::empty_like(x_TGI), dw = at::empty_like(w);
    std::vector<MatrixProduct> products;
    for (int64_t group = 0; group < G; ++group) {
      const auto dy_TO = dy_TGO.select(1, group);
      const int64_t row = group * rows;
      products.push_back({dy_TO, operand.narrow(0, row, rows), dx_TGI.select(1, group)});
      if (ctx->needs_input_grad(1)) {
        products.push_back({dy_TO.t(), x_TGI.select(1, group), dw.narrow(0, row, rows)});
      }
    }
    multiply_each(products);
    return {dx_TGI, ctx->needs_input_grad(1) ? dw : at::Tensor(), at::Tensor()};
  }
};

// Products round a float32 master to bfloat16 as they read it.
at::Tensor fitting(const Weight& weight, const at::Tensor& x) {
  return weight.values.to(wide_type(x) == at::kDouble ? at::kDouble : weight.values.scalar_type());
}

thread_local int keep_mapped_pages = 0;

}  // namespace

MappedPagesKept::MappedPagesKept() {
  ++keep_mapped_pages;
}

MappedPagesKept::~MappedPagesKept() {
  --keep_mapped_pages;
}

bool MappedPagesKept::on_this_thread() {
  return keep_mapped_pages > 0;
}

int64_t Weight::columns() const {
  return values.size(1) * (quantized() && values.scalar_type() != at::kFloat8_e4m3fn ? 2 : 1);
}

int64_t Weight::nbytes() const {
  return static_cast<int64_t>(values.nbytes() + (quantized() ? scales.nbytes() : 0));
}

void Weight::prefetch() const {
  if (mapped()) {
    prefetch_pages(values.const_data_ptr(), values.nbytes());
  }
}

void Weight::release_pages() const {
  for (const auto& part : {values, scales}) {
    // Wider elements that a file has at an odd place were copied out of it.
    if (mapped() && part.element_size() == 1) {
      release_mapped_pages(part.const_data_ptr(), part.nbytes());
    }
  }
}

ExpertWeights ExpertWeights::present() const {
  if (!supply_) {
    return *this;
  }
  return ExpertWeights(supply_->on_device()).part(first_, first_ + sizes()[0]);
}

ExpertWeights ExpertWeights::part(int64_t first, int64_t end) const {
  ExpertWeights result(std::vector<Weight>(each_.begin() + first, each_.begin() + end), supply_);
  result.first_ = first_ + first;
  return result;
}

std::vector<int64_t> ExpertWeights::sizes() const {
  return quantized() ? std::vector{static_cast<int64_t>(each_.size()),
                                   each_.front().rows(),
                                   each_.front().columns()}
                     : stack_.sizes().vec();
}

void multiply_each_quantized(const std::vector<QuantizedMatrixProduct>& products, bool accumulate) {
  if (products.empty()) {
    return;
  }
  if (products.front().out.is_cpu()) {
    multiply_quantized_cpu(products, accumulate);
    return;
  }
  for (const auto& product : products) {
    auto [a, weight, out, first_row, by_columns] = product;
    if (has_fp4_kernel(a, weight, out, by_columns)) {
      multiply_fp4_rows(product, accumulate);
      continue;
    }
    auto w_OI = at::empty({by_columns ? a.size(1) : out.size(1), weight.columns()}, a.options());
    decode_block({weight.values, weight.scales}, first_row, 0, w_OI);
    multiply(a, by_columns ? w_OI : w_OI.t(), out, accumulate);
  }
}

at::Tensor project(const at::Tensor& x, const Weight& weight) {
  if (!weight.quantized()) {
    return project_each(x, {weight})[0];
  }
  require(x.size(-1) == weight.columns(),
          "[project] x has ",
          x.size(-1),
          " channels, the weight ",
          weight.columns());
  auto sizes = x.sizes().vec();
  sizes.back() = weight.rows();
  return QuantizedProduct::apply(x.reshape({-1, x.size(-1)}), weight, 0, weight.rows()).view(sizes);
}

std::vector<at::Tensor> project_each(const at::Tensor& x, const std::vector<Weight>& weights) {
  std::vector<at::Tensor> each, operands;
  if (std::ranges::any_of(weights, &Weight::quantized)) {
    for (const auto& weight : weights) {
      each.push_back(project(x, weight));
    }
    return each;
  }
  for (const auto& weight : weights) {
    each.push_back(fitting(weight, x));
    operands.push_back(weight.copy.operand_for(x, each.back()));
  }
  return linear_products(x, each, operands);
}

at::Tensor grouped_project(const at::Tensor& x_TGI, const Weight& weight) {
  const int64_t G = x_TGI.size(1), rows = weight.rows() / G;
  if (!weight.quantized()) {
    return GroupedLinear::apply(x_TGI, fitting(weight, x_TGI), weight.copy);
  }
  std::vector<at::Tensor> groups;
  for (int64_t group = 0; group < G; ++group) {
    groups.push_back(QuantizedProduct::apply(x_TGI.select(1, group), weight, group * rows, rows));
  }
  return at::stack(groups, 1);
}

}  // namespace braid
