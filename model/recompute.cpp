#include "model/recompute.h"

#include <algorithm>
#include <optional>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/weight.h"

namespace braid {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The losses that were reported, in the order of sublayers.
std::vector<at::Tensor*> losses_in(Observations& observations) {
  std::vector<at::Tensor*> losses;
  for (auto& layer : observations.layers) {
    for (auto* loss : {&layer.indexer_kl_sum, &layer.balance_sum}) {
      if (loss->defined()) {
        losses.push_back(loss);
      }
    }
  }
  return losses;
}

// Adds what a segment reported, which may be half a layer.
void add_reports(Observations& all, Observations& of_segment) {
  const auto add = [](at::Tensor& to, at::Tensor& from) {
    if (from.defined()) {
      to = from;
    }
  };
  for (std::size_t i = 0; i < of_segment.layers.size(); ++i) {
    auto &to = all.of_layer(static_cast<int64_t>(i)), &from = of_segment.layers[i];
    add(to.load_E, from.load_E);
    add(to.balance_sum, from.balance_sum);
    add(to.indexer_kl_sum, from.indexer_kl_sum);
    add(to.indexer_recall_sum, from.indexer_recall_sum);
  }
  for (const auto& streams : of_segment.streams_BSMD) {
    all.streams_BSMD.push_back(streams);
  }
}

// The result and the losses.
variable_list results_of(const Segment& segment, const at::Tensor& X, const Pass& pass) {
  variable_list results = {segment(X, pass)};
  if (pass.observations != nullptr) {
    for (const auto* loss : losses_in(*pass.observations)) {
      results.push_back(*loss);
    }
  }
  return results;
}

struct KeptSegment : torch::CustomClassHolder {
  KeptSegment(Segment given, Pass its_pass) : run(std::move(given)), pass(std::move(its_pass)) {}
  Segment run;
  Pass pass;
};

class RecomputedFunction : public torch::autograd::Function<RecomputedFunction> {
 public:
  static variable_list forward(AutogradContext* ctx,
                               const at::Tensor& X,
                               const Segment& segment,
                               const Pass& pass) {
    ctx->save_for_backward({X});
    ctx->saved_data["segment"] =
        c10::IValue::make_capsule(c10::make_intrusive<KeptSegment>(segment, pass));
    return results_of(segment, X, pass);  // autograd is off inside a Function
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const at::AutoGradMode with_gradient(true);
    const auto X = ctx->get_saved_variables()[0].detach().requires_grad_(true);
    const auto capsule = ctx->saved_data["segment"].toCapsule();
    const auto& segment = static_cast<const KeptSegment&>(*capsule);
    Observations again;  // the same reports, of which only the losses' gradients are of use
    auto pass = segment.pass;
    pass.observations = pass.observations != nullptr ? &again : nullptr;
    pass.options.observer = nullptr;
    const auto outputs = [&] {
      std::optional<MappedPagesKept> for_the_backward_pass;
      if (pass.options.recompute_sublayers <= 2) {  // those of one layer; more may not fit
        for_the_backward_pass.emplace();
      }
      return results_of(segment.run, X, pass);
    }();
    variable_list roots, root_gradients;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].requires_grad() && gradients[i].defined()) {
        roots.push_back(outputs[i]);
        root_gradients.push_back(gradients[i]);
      }
    }
    torch::autograd::backward(roots, root_gradients);
    return {X.grad(), at::Tensor(), at::Tensor()};  // segment and pass have no gradient
  }
};

}  // namespace

at::Tensor recomputed(const Segment& segment, const at::Tensor& X, const Pass& pass) {
  if (!at::GradMode::is_enabled() || !X.requires_grad()) {
    return segment(X, pass);
  }
  if (pass.observations == nullptr) {
    return RecomputedFunction::apply(X, segment, pass)[0];
  }
  Observations reported{.layers = {}, .streams_BSMD = {}, .on_layer = pass.observations->on_layer};
  auto own = pass;
  own.observations = &reported;
  const auto results = RecomputedFunction::apply(X, segment, own);
  // The segment reported each loss as it computed it; out of the Function it has a gradient.
  std::size_t next = 1;
  for (auto* loss : losses_in(reported)) {
    *loss = results[next++];
  }
  add_reports(*pass.observations, reported);
  return results[0];
}

at::Tensor recomputed_blocks(const std::vector<Block>& blocks,
                             const at::Tensor& X_BSMD,
                             const Pass& pass) {
  struct Sublayer {
    const Block* block;
    at::Tensor (Block::*forward)(const at::Tensor& X_BSMD, const Pass& pass) const;
  };
  std::vector<Sublayer> sublayers;
  for (const auto& block : blocks) {
    sublayers.push_back({&block, &Block::attend});
    sublayers.push_back({&block, &Block::apply_experts});
  }
  auto result_BSMD = X_BSMD;
  const auto count = static_cast<int64_t>(sublayers.size());
  for (int64_t first = 0; first < count; first += pass.options.recompute_sublayers) {
    const int64_t end = std::min(count, first + pass.options.recompute_sublayers);
    const std::vector of_segment(sublayers.begin() + first, sublayers.begin() + end);
    const Segment segment = [of_segment](const at::Tensor& X, const Pass& own_pass) {
      auto result = X;
      for (const auto& [block, forward] : of_segment) {
        result = (block->*forward)(result, own_pass);
      }
      return result;
    };
    result_BSMD = recomputed(segment, result_BSMD, pass);
  }
  return result_BSMD;
}

}  // namespace braid
