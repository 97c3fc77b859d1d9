#include "model/parameters.h"

#include <map>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/random.h"

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

// At most a few names, so that a wrong file gives a readable message.
std::string listed(const std::vector<std::string>& names) {
  std::string result;
  for (std::size_t i = 0; i < names.size() && i < 5; ++i) {
    result += (i ? ", " : "") + names[i];
  }
  return names.size() > 5 ? text(result, " and ", names.size() - 5, " more") : result;
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
  if (!without_values) {
    fill(value);
  }
  value.set_requires_grad(trained);
  parameters_.push_back({name, value, trained});
  return value;
}

at::Tensor Parameters::normal(const std::string& name, at::IntArrayRef shape) {
  return add(name, shape, dtype_, true, [&](at::Tensor& value) {
    for (const auto& slice : unstacked({{name, value}})) {
      const uint64_t key = random_key(seed_, slice.name);
      fill(slice.value, [&](int64_t i) { return initializer_range_ * random_normal(key, i); });
    }
  });
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
                                       const std::function<int64_t(int64_t)>& entry) {
  return add(name, shape, at::kLong, false, [&](at::Tensor& value) {
    for (int64_t i = 0; i < value.numel(); ++i) {
      value.data_ptr<int64_t>()[i] = entry(i);
    }
  });
}

std::vector<NamedTensor> Parameters::tensors() const {
  std::vector<NamedTensor> result;
  for (const auto& parameter : parameters_) {
    result.push_back({parameter.name, parameter.value.detach()});
  }
  return unstacked(result);
}

void Parameters::load(const std::vector<NamedTensor>& values, const std::string& source) {
  std::map<std::string, at::Tensor> given;
  for (const auto& [name, value] : values) {
    require(given.emplace(name, value).second, source, ": tensor ", name, " occurs twice");
  }
  std::vector<std::string> missing, misshapen;
  const auto targets = tensors();
  for (const auto& [name, target] : targets) {
    const auto found = given.find(name);
    if (found == given.end()) {
      missing.push_back(name);
    } else if (found->second.sizes() != target.sizes()) {
      misshapen.push_back(
          text(name, " is ", found->second.sizes(), ", the configuration says ", target.sizes()));
    }
  }
  std::vector<std::string> unexpected;
  if (given.size() + missing.size() != targets.size()) {
    std::map<std::string, bool> known;
    for (const auto& target : targets) {
      known[target.name] = true;
    }
    for (const auto& [name, value] : given) {
      if (!known.contains(name)) {
        unexpected.push_back(name);
      }
    }
  }
  require(missing.empty() && unexpected.empty() && misshapen.empty(),
          source,
          ": its tensors are not those of the configured model;",
          missing.empty() ? "" : " missing: " + listed(missing) + ";",
          unexpected.empty() ? "" : " unexpected: " + listed(unexpected) + ";",
          misshapen.empty() ? "" : " of another shape: " + listed(misshapen) + ";",
          " check that weights and configuration belong together");
  for (const auto& [name, target] : targets) {
    target.copy_(given.at(name));
  }
}

}  // namespace braid
