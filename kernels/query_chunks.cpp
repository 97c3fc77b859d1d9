#include "kernels/query_chunks.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/custom_class.h>

#include "kernels/autograd.h"

namespace braid {
namespace {

struct Chunks : torch::CustomClassHolder {
  int64_t S, at_once;
  QueryOp op;
  Chunks(int64_t queries, int64_t queries_at_once, QueryOp its_op)
      : S(queries), at_once(queries_at_once), op(std::move(its_op)) {}

  // Calls f(first, count) for each.
  template <class F>
  void for_each(const F& f) const {
    for (int64_t first = 0; first < S; first += at_once) {
      f(first, std::min(at_once, S - first));
    }
  }

  variable_list inputs_of(const variable_list& inputs, int64_t first, int64_t count) const {
    auto own = inputs;
    for (std::size_t i = 0; i < op.of_queries; ++i) {
      own[i] = own[i].narrow(1, first, count);
    }
    return own;
  }
};

// `all`: of the whole, made with the first chunk.
void put(at::Tensor& all, const at::Tensor& part, bool sums, int64_t S, int64_t first) {
  if (sums) {
    all = all.defined() ? all.add_(part) : part.clone();
    return;
  }
  if (!all.defined()) {
    auto sizes = part.sizes().vec();
    sizes[1] = S;
    all = at::empty(sizes, part.options());
  }
  all.narrow(1, first, part.size(1)).copy_(part);
}

class ChunkFunction : public Function<ChunkFunction> {
 public:
  static variable_list forward(AutogradContext* ctx,
                               at::TensorList inputs,
                               const c10::intrusive_ptr<Chunks>& chunks) {
    ctx->set_materialize_grads(false);
    ctx->save_for_backward(inputs.vec());
    ctx->saved_data["chunks"] = at::IValue::make_capsule(chunks);
    variable_list results;
    chunks->for_each([&](int64_t first, int64_t count) {
      const auto parts =
          chunks->op.run(chunks->inputs_of(inputs.vec(), first, count), first, count);
      results.resize(parts.size());
      for (std::size_t i = 0; i < parts.size(); ++i) {
        put(results[i], parts[i], chunks->op.sums, chunks->S, first);
      }
    });
    ctx->mark_non_differentiable({results.begin() + 1, results.end()});
    return results;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto inputs = ctx->get_saved_variables();
    variable_list results(inputs.size() + 1);  // the operation has none
    if (!gradients[0].defined()) {
      return results;
    }
    const auto capsule = ctx->saved_data["chunks"].toCapsule();
    const auto& chunks = static_cast<const Chunks&>(*capsule);
    chunks.for_each([&](int64_t first, int64_t count) {
      auto own = chunks.inputs_of(inputs, first, count);
      variable_list wanted;
      for (std::size_t i = 0; i < own.size(); ++i) {
        own[i] = own[i].detach();
        if (ctx->needs_input_grad(i)) {
          wanted.push_back(own[i].requires_grad_(true));
        }
      }
      const at::AutoGradMode with_gradient(true);
      const auto part = chunks.op.run(own, first, count)[0];
      const auto dpart =
          chunks.op.sums ? gradients[0] : gradients[0].narrow(1, first, part.size(1));
      const auto found = torch::autograd::grad(
          {part}, wanted, {dpart}, std::nullopt, /*create_graph=*/false, /*allow_unused=*/false);
      const at::NoGradGuard no_grad;
      for (std::size_t i = 0, next = 0; i < own.size(); ++i) {
        if (ctx->needs_input_grad(i)) {
          put(results[i], found[next++], i >= chunks.op.of_queries, chunks.S, first);
        }
      }
    });
    return results;
  }
};

}  // namespace

int64_t queries_at_once(int64_t S, int64_t scores, at::ScalarType wide) {
  const auto bytes = scores * static_cast<int64_t>(c10::elementSize(wide));
  return std::clamp<int64_t>(
      kTwinScoreBytes / std::max<int64_t>(bytes, 1), 1, std::max<int64_t>(S, 1));
}

std::vector<at::Tensor> in_query_chunks(const std::vector<at::Tensor>& inputs,
                                        int64_t S,
                                        int64_t at_once,
                                        const QueryOp& op) {
  if (at_once >= S) {
    return op.run(inputs, 0, S);
  }
  return ChunkFunction::apply(at::TensorList(inputs), c10::make_intrusive<Chunks>(S, at_once, op));
}

}  // namespace braid
