#include "model/parameters.h"

#include <map>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/random.h"

namespace braid {
namespace {

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

at::Tensor Parameters::add(const std::string& name, at::Tensor value, bool trained) {
  if (trained) {
    value.set_requires_grad(true);
  }
  parameters_.push_back({name, value, trained});
  return value;
}

at::Tensor Parameters::normal(const std::string& name, at::IntArrayRef shape) {
  auto value = at::empty(shape, dtype_);
  for (const auto& slice : unstacked({{name, value}})) {
    const uint64_t key = random_key(seed_, slice.name);
    fill(slice.value, [&](int64_t i) { return initializer_range_ * random_normal(key, i); });
  }
  return add(name, value, true);
}

at::Tensor Parameters::constant(const std::string& name, at::IntArrayRef shape, double value) {
  return add(name, at::full(shape, value, dtype_), true);
}

at::Tensor Parameters::filled(const std::string& name,
                              at::IntArrayRef shape,
                              const Initializer& value) {
  auto tensor = at::empty(shape, dtype_);
  fill(tensor, value);
  return add(name, tensor, true);
}

at::Tensor Parameters::untrained_constant(const std::string& name,
                                          at::IntArrayRef shape,
                                          double value) {
  return add(name, at::full(shape, value, dtype_), false);
}

at::Tensor Parameters::untrained_table(const std::string& name,
                                       at::IntArrayRef shape,
                                       const std::function<int64_t(int64_t)>& value) {
  auto tensor = at::empty(shape, at::kLong);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<int64_t>()[i] = value(i);
  }
  return add(name, tensor, false);
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
