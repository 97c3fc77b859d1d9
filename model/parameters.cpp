#include "model/parameters.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/interruption.h"
#include "core/parameter_names.h"
#include "core/random.h"
#include "kernels/codec.h"
#include "model/expert_places.h"

namespace braid {
namespace {

thread_local bool without_values = false;

void fill(at::Tensor tensor, const Initializer& value) {
  const auto fill_as = [&](auto* data) {
    at::parallel_for(0, tensor.numel(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        data[i] = static_cast<std::remove_reference_t<decltype(*data)>>(value(i));
      }
    });
  };
  if (tensor.scalar_type() == at::kDouble) {
    fill_as(tensor.data_ptr<double>());
  } else {
    fill_as(tensor.data_ptr<float>());
  }
}

void copy_from(const Weight& stored, at::Tensor& target) {
  if (stored.quantized()) {
    decode_block({stored.values, stored.scales}, 0, 0, target);
  } else {
    target.copy_(stored.values);
  }
}

// Out of the file's mapping, without a second copy on the host.
Weight moved(const Weight& weight, at::Device device) {
  constexpr bool kNonBlocking = false, kCopy = true;
  const auto type = [](const at::Tensor& tensor) { return tensor.scalar_type(); };
  const Weight there(weight.values.to(device, type(weight.values), kNonBlocking, kCopy),
                     weight.scales.to(device, type(weight.scales), kNonBlocking, kCopy));
  if (!device.is_cpu()) {
    weight.release_pages();
  }
  return there;
}

ExpertWeights stack_of(const Weight& factors) {
  return {factors.values, factors.copy};
}

// At most a few names, so that a wrong file gives a readable message.
std::string listed(const std::vector<std::string>& names) {
  std::string result;
  for (std::size_t i = 0; i < names.size() && i < 5; ++i) {
    result += (i ? ", " : "") + names[i];
  }
  return names.size() > 5 ? text(result, " and ", names.size() - 5, " more") : result;
}

// Codes are never given, other parameters in the base wholly or not at all.
bool is_left_out(const Parameter& parameter,
                 const std::map<std::string, std::vector<int64_t>>& given) {
  if (!parameter.in_base || !parameter.quantized.empty()) {
    return parameter.in_base;
  }
  return std::ranges::none_of(unstacked({{parameter.name, parameter.value}}),
                              [&](const auto& tensor) { return given.contains(tensor.name); });
}

// Products look for an expert where a table says, on a device without a check.
void require_entries(const Parameter& table, const at::Tensor& value, const std::string& source) {
  const auto wrong = at::nonzero((value < 0).logical_or(value >= table.entries_below));
  if (wrong.size(0) == 0) {
    return;
  }
  const auto row = wrong[0][0].item<int64_t>(), column = wrong[0][1].item<int64_t>();
  fail(source,
       ": entry [",
       row,
       ", ",
       column,
       "] of ",
       table.name,
       " is ",
       value[row][column].item<int64_t>(),
       "; expected 0 to ",
       table.entries_below - 1,
       ", the number of an expert");
}

}  // namespace

WithoutValues::WithoutValues() : before_(std::exchange(without_values, true)) {}

WithoutValues::~WithoutValues() {
  without_values = before_;
}

at::Tensor Parameters::add(const std::string& name,
                           at::IntArrayRef shape,
                           at::ScalarType dtype,
                           bool trained,
                           const std::function<void(at::Tensor&)>& fill) {
  auto value = at::empty(shape, at::device(without_values ? at::kMeta : at::kCPU).dtype(dtype));
  if (is_read(name)) {
    for (auto& slice : unstacked({{name, value}})) {
      stop_if_interrupted();
      copy_from(source_->read(slice.name), slice.value);
    }
  } else if (!without_values) {
    fill(value);
  }
  value = without_values ? value : value.to(device_);
  value.set_requires_grad(trained);
  parameters_.push_back({name, value, trained, {}, stays_in_base(name, value)});
  return value;
}

bool Parameters::is_read(const std::string& name) const {
  return !without_values && source_ != nullptr && !(source_->is_drawn && source_->is_drawn(name));
}

bool Parameters::stays_in_base(const std::string& name, const at::Tensor& value) const {
  if (!is_read(name) || !source_->is_frozen(name)) {
    return false;
  }
  return !source_->in_base || std::ranges::all_of(unstacked({{name, value}}), [&](const auto& one) {
    return source_->in_base(one.name);
  });
}

std::vector<Weight> Parameters::quantized(const std::string& name, at::IntArrayRef shape) const {
  if (!is_read(name) || !source_->is_frozen(name)) {
    return {};
  }
  const auto value = at::empty(shape, at::device(at::kMeta).dtype(dtype_));
  std::vector<Weight> weights;
  for (const auto& slice : unstacked({{name, value}})) {
    auto weight = source_->read(slice.name);
    if (!weight.quantized()) {
      return {};
    }
    weights.push_back(std::move(weight));
  }
  return weights;
}

void Parameters::add_quantized(const std::string& name,
                               at::IntArrayRef shape,
                               std::vector<Weight> weights) {
  const auto value = at::empty(shape, at::device(at::kMeta).dtype(dtype_));
  parameters_.push_back({name, value, /*trained=*/true, std::move(weights), /*in_base=*/true});
}

Weight Parameters::matrix(const std::string& name, at::IntArrayRef shape) {
  const auto stored = quantized(name, shape);
  if (stored.empty()) {
    return float_matrix(name, shape);
  }
  const auto weight = moved(stored.front(), device_);
  add_quantized(name, shape, {weight});
  return weight;
}

Weight Parameters::float_matrix(const std::string& name, at::IntArrayRef shape) {
  const auto value = normal(name, shape);
  return {value, rounded_copy(value)};
}

WorkingCopy Parameters::rounded_copy(const at::Tensor& value) {
  parameters_.back().is_rounded = true;
  return working_copies_ ? WorkingCopy(value) : WorkingCopy();
}

ExpertWeights Parameters::experts(const std::string& name,
                                  at::IntArrayRef shape_EOI,
                                  bool is_rounded) {
  auto stored = quantized(name, shape_EOI);
  if (stored.empty()) {
    const auto stack = normal(name, shape_EOI);
    return {stack, is_rounded ? rounded_copy(stack) : WorkingCopy()};
  }
  ExpertWeights experts;
  const auto place = source_->place ? source_->place(name) : WeightPlace::kDevice;
  if (device_.is_cpu()) {
    experts = ExpertWeights(std::move(stored));
  } else if (place == WeightPlace::kDevice) {
    for (auto& weight : stored) {
      weight = moved(weight, device_);
    }
    experts = ExpertWeights(std::move(stored));
  } else {
    if (!expert_stream_) {
      expert_stream_ = std::make_shared<ExpertStream>(device_);
    }
    experts = expert_stream_->add(layer_of_experts(name), std::move(stored), place);
  }
  add_quantized(name, shape_EOI, experts.each());
  return experts;
}

at::Tensor Parameters::drawn(const std::string& name,
                             at::IntArrayRef shape,
                             const std::function<double(uint64_t key, uint64_t index)>& draw) {
  return add(name, shape, dtype_, true, [&](at::Tensor& value) {
    for (const auto& slice : unstacked({{name, value}})) {
      stop_if_interrupted();
      const uint64_t key = random_key(seed_, slice.name);
      fill(slice.value, [&](int64_t i) { return draw(key, static_cast<uint64_t>(i)); });
    }
  });
}

at::Tensor Parameters::normal(const std::string& name, at::IntArrayRef shape) {
  return drawn(name, shape, [this](uint64_t key, uint64_t i) {
    return initializer_range_ * random_normal(key, i);
  });
}

Weight Parameters::factor_b(const LoraMatrix& matrix, at::IntArrayRef shape, bool is_rounded) {
  auto b_shape = shape.vec();
  b_shape.back() = matrix.rank;
  const auto b = constant(matrix.b_name, b_shape, 0);
  return {b, is_rounded ? rounded_copy(b) : WorkingCopy()};
}

Parameters::Factors Parameters::factors(const LoraMatrix& matrix,
                                        at::IntArrayRef shape,
                                        bool is_rounded) {
  auto a_shape = shape.vec();
  a_shape[a_shape.size() - 2] = matrix.rank;
  const auto inputs = static_cast<double>(shape.back());
  const double range = 1 / std::sqrt(inputs);
  const auto uniform = [range](uint64_t key, uint64_t i) {
    return range * (2 * random_uniform(key, i) - 1);
  };
  const auto a = drawn(matrix.a_name, a_shape, uniform);
  const Weight with_copy(a, is_rounded ? rounded_copy(a) : WorkingCopy());
  return {with_copy, factor_b(matrix, shape, is_rounded)};
}

std::shared_ptr<const Lora> Parameters::adapter(const std::string& name,
                                                at::IntArrayRef shape,
                                                const Weight& weight,
                                                bool is_rounded) {
  const auto matrix = lora_ ? lora_matrix(*lora_, name) : std::nullopt;
  if (!matrix) {
    return nullptr;
  }
  if (!is_embedding(name)) {
    const auto [a_rI, b_Or] = factors(*matrix, shape, is_rounded);
    std::optional<LoraMagnitude> magnitude;
    if (lora_->dora) {
      const auto norms_O =
          add(lora_magnitude_name(name), {shape[0]}, dtype_, true, [&](at::Tensor& value) {
            value.copy_(row_squares(weight, dtype_).sqrt());
          });
      magnitude = LoraMagnitude{norms_O, weight};
    }
    return std::make_shared<const Lora>(
        name, a_rI, b_Or, matrix->scale, lora_use_, std::move(magnitude));
  }
  const auto a_rI = constant(matrix->a_name, {matrix->rank, shape[1]}, 0);
  const auto b_Or = drawn(matrix->b_name, {shape[0], matrix->rank}, random_normal);
  return std::make_shared<const Lora>(name, a_rI, b_Or, matrix->scale, lora_use_);
}

ExpertAdapters Parameters::expert_adapters(const ExpertNames& names,
                                           int64_t E,
                                           int64_t F,
                                           int64_t D) {
  ExpertAdapters adapters;
  if (!lora_) {
    return adapters;
  }
  if (const auto w1 = lora_matrix(*lora_, names.w1), w3 = lora_matrix(*lora_, names.w3); w1 && w3) {
    const auto [a, b1] = factors(*w1, {E, F, D}, /*is_rounded=*/true);
    adapters.a13_ErD = stack_of(a);
    adapters.b1_EFr = stack_of(b1);
    adapters.b3_EFr = stack_of(factor_b(*w3, {E, F, D}, /*is_rounded=*/true));
    adapters.scale13 = w1->scale;
  }
  if (const auto w2 = lora_matrix(*lora_, names.w2)) {
    const auto [a, b] = factors(*w2, {E, D, F}, /*is_rounded=*/true);
    adapters.a2_ErF = stack_of(a);
    adapters.b2_EDr = stack_of(b);
    adapters.scale2 = w2->scale;
  }
  return adapters;
}

at::Tensor Parameters::constant(const std::string& name, at::IntArrayRef shape, double constant) {
  return add(name, shape, dtype_, true, [&](at::Tensor& value) { value.fill_(constant); });
}

at::Tensor Parameters::filled(const std::string& name,
                              at::IntArrayRef shape,
                              const Initializer& initializer) {
  return add(name, shape, dtype_, true, [&](at::Tensor& value) { fill(value, initializer); });
}

at::Tensor Parameters::untrained_constant(const std::string& name,
                                          at::IntArrayRef shape,
                                          double constant) {
  return add(name, shape, dtype_, false, [&](at::Tensor& value) { value.fill_(constant); });
}

at::Tensor Parameters::untrained_table(const std::string& name,
                                       at::IntArrayRef shape,
                                       int64_t below,
                                       const std::function<int64_t(int64_t)>& entry) {
  const auto value = add(name, shape, at::kLong, false, [&](at::Tensor& table) {
    for (int64_t i = 0; i < table.numel(); ++i) {
      table.data_ptr<int64_t>()[i] = entry(i);
    }
  });
  parameters_.back().entries_below = below;
  if (is_read(name)) {
    require_entries(parameters_.back(), value, source_->described);
  }
  return value;
}

int64_t Parameters::working_copies_bytes() const {
  int64_t elements = 0;
  for (const auto& parameter : parameters_) {
    elements += parameter.is_rounded ? parameter.value.numel() : 0;
  }
  return working_copies_ ? elements * static_cast<int64_t>(c10::elementSize(at::kBFloat16)) : 0;
}

std::vector<NamedTensor> Parameters::tensors() const {
  std::vector<NamedTensor> result;
  for (const auto& parameter : parameters_) {
    if (parameter.quantized.empty()) {
      result.push_back({parameter.name, parameter.value.detach()});
    }
  }
  return unstacked(result);
}

void Parameters::load(const std::vector<NamedTensor>& values, const std::string& source) {
  std::map<std::string, at::Tensor> given;
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const auto& [name, value] : values) {
    require(given.emplace(name, value).second, source, ": tensor ", name, " occurs twice");
    shapes[name] = value.sizes().vec();
  }
  require_tensors_of(*this, shapes, source);
  for (auto& parameter : parameters_) {
    if (is_left_out(parameter, shapes)) {
      continue;
    }
    for (const auto& [name, target] : unstacked({{parameter.name, parameter.value.detach()}})) {
      if (parameter.entries_below > 0) {
        require_entries(parameter, given.at(name), source);
      }
      target.copy_(given.at(name));
    }
    parameter.in_base = false;
  }
}

void require_tensors_of(const Parameters& parameters,
                        const std::map<std::string, std::vector<int64_t>>& shapes,
                        const std::string& source) {
  std::vector<std::string> missing, unexpected, misshapen;
  std::set<std::string> known;
  for (const auto& parameter : parameters.all()) {
    if (is_left_out(parameter, shapes)) {
      continue;
    }
    for (const auto& [name, target] : unstacked({{parameter.name, parameter.value}})) {
      known.insert(name);
      const auto found = shapes.find(name);
      if (found == shapes.end()) {
        missing.push_back(name);
      } else if (target.sizes() != at::IntArrayRef(found->second)) {
        misshapen.push_back(text(name,
                                 " is ",
                                 at::IntArrayRef(found->second),
                                 ", the configuration says ",
                                 target.sizes()));
      }
    }
  }
  for (const auto& [name, shape] : shapes) {
    if (!known.contains(name)) {
      unexpected.push_back(name);
    }
  }
  require(missing.empty() && unexpected.empty() && misshapen.empty(),
          source,
          ": its tensors are not those of the configured model;",
          missing.empty() ? "" : " missing: " + listed(missing) + ";",
          unexpected.empty() ? "" : " unexpected: " + listed(unexpected) + ";",
          misshapen.empty() ? "" : " of another shape: " + listed(misshapen) + ";",
          " check that weights and configuration belong together");
}

}  // namespace braid
