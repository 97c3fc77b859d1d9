#include "core/named_tensor.h"

#include <algorithm>
#include <charconv>

#include <ATen/ATen.h>

namespace braid {
namespace {

// "layers.3.ffn.experts.16+*.w1.weight": what stands before and behind "16+*", and 16.
struct StackName {
  std::string before, after;
  int64_t first = 0;
};

StackName parsed(const std::string& name) {
  const auto star = name.find('*');
  auto begin = star;
  StackName result;
  if (star > 0 && name[star - 1] == '+') {
    begin = name.rfind('.', star) + 1;
    std::from_chars(name.data() + begin, name.data() + star - 1, result.first);
  }
  result.before = name.substr(0, begin);
  result.after = name.substr(star + 1);
  return result;
}

}  // namespace

bool is_stack(const std::string& name) {
  return name.find('*') != std::string::npos;
}

std::string stack_from(const std::string& stacked_name, int64_t first) {
  const auto [before, after, none] = parsed(stacked_name);
  return before + (first == 0 ? "" : std::to_string(first) + "+") + "*" + after;
}

std::string name_in_stack(const std::string& stacked_name, int64_t index) {
  const auto [before, after, first] = parsed(stacked_name);
  return before + std::to_string(first + index) + after;
}

std::vector<NamedTensor> unstacked(const std::vector<NamedTensor>& tensors) {
  std::vector<NamedTensor> result;
  for (const auto& [name, value] : tensors) {
    if (!is_stack(name)) {
      result.push_back({name, value});
      continue;
    }
    for (int64_t index = 0; index < value.size(0); ++index) {
      result.push_back({name_in_stack(name, index), value.select(0, index)});
    }
  }
  return result;
}

TensorPiece whole(const NamedTensor& tensor) {
  return {tensor.name, tensor.value, tensor.value.sizes().vec(), 0};
}

std::vector<TensorPiece> pieces_of(const NamedTensor& parameter,
                                   int64_t begin,
                                   int64_t end,
                                   const at::Tensor& values) {
  const auto flat = values.reshape(-1);
  std::vector<TensorPiece> pieces;
  int64_t first = 0;  // element of the tensor at hand, within the parameter
  for (const auto& [name, value] : unstacked({parameter})) {
    const int64_t from = std::max(begin, first), to = std::min(end, first + value.numel());
    if (from < to) {
      const int64_t row = value.dim() > 0 ? value.numel() / value.size(0) : 1;
      auto sizes = value.sizes().vec();
      if (!sizes.empty()) {
        sizes[0] = (to - from) / row;
      }
      pieces.push_back({name,
                        flat.slice(0, from - begin, to - begin).view(sizes),
                        value.sizes().vec(),
                        (from - first) / row});
    }
    first += value.numel();
  }
  return pieces;
}

}  // namespace braid
