#include "core/named_tensor.h"

namespace braid {

std::string name_in_stack(const std::string& stacked_name, int64_t index) {
  const auto star = stacked_name.find('*');
  return stacked_name.substr(0, star) + std::to_string(index) + stacked_name.substr(star + 1);
}

std::vector<NamedTensor> unstacked(const std::vector<NamedTensor>& tensors) {
  std::vector<NamedTensor> result;
  for (const auto& [name, value] : tensors) {
    if (name.find('*') == std::string::npos) {
      result.push_back({name, value});
      continue;
    }
    for (int64_t index = 0; index < value.size(0); ++index) {
      result.push_back({name_in_stack(name, index), value.select(0, index)});
    }
  }
  return result;
}

}  // namespace braid
