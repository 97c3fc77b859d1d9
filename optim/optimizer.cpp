#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "core/profile.h"
#include "kernels/update.h"
#include "optim/adamw.h"
#include "optim/muon.h"

namespace braid {
namespace {

at::Tensor gradient_of(const at::Tensor& value) {
  return value.grad().detach().contiguous();
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config,
                     std::vector<GroupedParameter> parameters,
                     std::optional<std::vector<ElementRange>> owned)
    : config_(config), parameters_(std::move(parameters)) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& [name, value] = parameters_[i].parameter;
    require(value.is_contiguous() &&
                (value.scalar_type() == at::kFloat || value.scalar_type() == at::kDouble),
            "[optimizer] parameter ",
            name,
            " must be contiguous and float32 or float64, got ",
            value.scalar_type());
  }
  if (config_.muon.idle_expert_damping) {
    damping_.emplace(parameters_, config_.muon.momentum);
  }
  if (!owned) {
    owned = balanced_ownership(units_of(parameters_), /*owners=*/1).owned_by(0);
  }
  for (const auto& range : *owned) {
    const auto& value = parameters_[range.parameter].parameter.value;
    if (parameters_[range.parameter].optimizer == OptimizerKind::kMuon) {
      add_muon(range);
    } else {
      auto& member = elements_.emplace_back(ElementsMember{range, {}});
      for (std::size_t i = 0; i < state_names(parameters_[range.parameter].optimizer).size(); ++i) {
        member.states.push_back(at::zeros({range.elements()}, value.options()));
      }
    }
  }
  for (auto& shape : muon_) {
    const auto& first = parameters_[shape.members.front().parameter];
    auto sizes = matrices_of(first, first.parameter.value).sizes().vec();
    sizes[0] = shape.members.back().end;
    shape.momentum_Brc = at::zeros(sizes, first.parameter.value.options().requires_grad(false));
  }
}

void Optimizer::add_muon(const ElementRange& range) {
  const auto& added = parameters_[range.parameter];
  const auto matrices = matrices_of(added, added.parameter.value);
  const int64_t elements = matrices.size(1) * matrices.size(2);
  const auto same_shape = std::find_if(muon_.begin(), muon_.end(), [&](const MuonShape& shape) {
    const auto& first = parameters_[shape.members.front().parameter];
    const auto other = matrices_of(first, first.parameter.value);
    return shape.part == added.part && other.size(1) == matrices.size(1) &&
           other.size(2) == matrices.size(2) && other.options().type_equal(matrices.options()) &&
           other.device() == matrices.device();
  });
  auto& shape = same_shape == muon_.end() ? muon_.emplace_back() : *same_shape;
  shape.part = added.part;
  const int64_t begin = shape.members.empty() ? 0 : shape.members.back().end;
  shape.members.push_back(
      {range.parameter, range.begin / elements, begin, begin + range.elements() / elements});
}

void Optimizer::step(double learning_rate, TrainedParts parts, double gradient_scale) {
  const at::NoGradGuard no_grad;
  ++steps_.all;
  for (const auto part : kTrainedParts) {
    steps_.of(part) += parts.contains(part);
  }
  for (const auto& shape : muon_) {
    if (parts.contains(shape.part)) {
      step_muon(shape, learning_rate, gradient_scale);
    }
  }
  step_elements(learning_rate, parts, gradient_scale);
}

void Optimizer::step_muon(const MuonShape& shape, double learning_rate, double gradient_scale) {
  const ProfileScope scope("Muon", ProfileKind::kStep);
  std::vector<MuonStack> stacks;
  for (const auto& [parameter, first, begin, end] : shape.members) {
    const auto& grouped = parameters_[parameter];
    const auto& [name, value] = grouped.parameter;
    if (!value.grad().defined()) {
      continue;
    }
    const double rate = learning_rate * grouped.learning_rate_scale;
    const MuonStack stack{
        matrices_of(grouped, value.detach()).slice(0, first, first + end - begin),
        matrices_of(grouped, gradient_of(value)).slice(0, first, first + end - begin),
        shape.momentum_Brc.slice(0, begin, end),
        rate,
        grouped.weight_decay};
    if (!damping_ || !is_stack(name)) {
      stacks.push_back(stack);
      continue;
    }
    for (int64_t i = 0; i < end - begin; ++i) {
      const auto one = [i](const at::Tensor& matrices) { return matrices.slice(0, i, i + 1); };
      stacks.push_back({one(stack.value_Brc),
                        one(stack.gradient_Brc),
                        one(stack.momentum_Brc),
                        rate * damping_->factor(name_in_stack(name, first + i)),
                        grouped.weight_decay});
    }
  }
  muon_step(stacks, gradient_scale, config_.muon);
}

void Optimizer::step_elements(double learning_rate, TrainedParts parts, double gradient_scale) {
  std::vector<AdamWTensors> by_adamw;
  for (const auto& [range, states] : elements_) {
    const auto& grouped = parameters_[range.parameter];
    const auto& value = grouped.parameter.value;
    if (!parts.contains(grouped.part) || !value.grad().defined()) {
      continue;
    }
    const auto owned = [begin = range.begin, end = range.end](const at::Tensor& tensor) {
      return tensor.view(-1).slice(0, begin, end);
    };
    const auto weights = owned(value.detach()), gradients = owned(gradient_of(value));
    const AdamWStep step{steps_.of(grouped.part),
                         learning_rate * grouped.learning_rate_scale,
                         grouped.weight_decay,
                         gradient_scale};
    switch (grouped.optimizer) {
      case OptimizerKind::kAdamW:
        by_adamw.push_back({weights, gradients, states[0], states[1], step});
        break;
      case OptimizerKind::kMuon:
      case OptimizerKind::kNone:
        fail("unreachable: OptimizerKind");
    }
  }
  const ProfileScope scope("AdamW", ProfileKind::kStep);
  adamw_update(by_adamw, config_.adamw);
}

void Optimizer::received(const std::vector<at::Tensor>& load_E) {
  if (damping_) {
    damping_->received(load_E);
  }
}

std::vector<NamedTensor> Optimizer::shared_state() const {
  return damping_ ? damping_->state() : std::vector<NamedTensor>();
}

std::string Optimizer::first_not_finite(TrainedParts parts) const {
  const ProfileScope scope("finite weights", ProfileKind::kStep);
  struct Looked {
    ElementRange range;
    std::string what;
  };
  std::vector<Looked> looked;
  std::vector<at::Tensor> values;
  const auto look = [&](const ElementRange& range, const at::Tensor& of_range, std::string what) {
    looked.push_back({range, std::move(what)});
    values.push_back(of_range);
  };
  const auto of_weight = [&](const ElementRange& range) {
    return parameters_[range.parameter].parameter.value.detach().view(-1).slice(
        0, range.begin, range.end);
  };
  for (const auto& shape : muon_) {
    const int64_t elements = shape.momentum_Brc.size(1) * shape.momentum_Brc.size(2);
    for (const auto& [parameter, from, begin, end] : shape.members) {
      if (parts.contains(shape.part)) {
        const ElementRange range{parameter, from * elements, (from + end - begin) * elements};
        look(range, of_weight(range), "");
        look(range, shape.momentum_Brc.slice(0, begin, end), "/momentum");
      }
    }
  }
  for (const auto& [range, states] : elements_) {
    const auto& grouped = parameters_[range.parameter];
    if (parts.contains(grouped.part)) {
      look(range, of_weight(range), "");
      for (std::size_t i = 0; i < states.size(); ++i) {
        look(range, states[i], "/" + state_names(grouped.optimizer)[i]);
      }
    }
  }
  // A sum is not finite wherever an element is not; of float64 it may also have overflowed.
  const auto sums = squared_norms(values);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (std::isfinite(sums[i])) {
      continue;
    }
    const auto& [range, what] = looked[i];
    const auto& parameter = parameters_[range.parameter].parameter;
    for (const auto& piece : pieces_of(parameter, range.begin, range.end, values[i])) {
      if (!piece.value.isfinite().all().item<bool>()) {
        return piece.name + what;
      }
    }
  }
  return {};
}

std::vector<TensorPiece> Optimizer::state() const {
  std::vector<TensorPiece> result;
  const auto add =
      [&](const ElementRange& range, const at::Tensor& values, const std::string& what) {
        const auto& parameter = parameters_[range.parameter].parameter;
        for (auto& piece : pieces_of(parameter, range.begin, range.end, values)) {
          piece.name += what;
          result.push_back(std::move(piece));
        }
      };
  for (const auto& shape : muon_) {
    for (const auto& [parameter, first, begin, end] : shape.members) {
      const int64_t elements = shape.momentum_Brc.size(1) * shape.momentum_Brc.size(2);
      add({parameter, first * elements, (first + end - begin) * elements},
          shape.momentum_Brc.slice(0, begin, end),
          "/momentum");
    }
  }
  for (const auto& [range, states] : elements_) {
    for (std::size_t i = 0; i < states.size(); ++i) {
      add(range, states[i], "/" + state_names(parameters_[range.parameter].optimizer)[i]);
    }
  }
  return result;
}

}  // namespace braid
