#include "run/step_count.h"

namespace braid {
namespace {

constexpr std::string_view kByEpochs = "by epochs";

}  // namespace

StepCount StepCount::from_config(const ConfigNode& node,
                                 const std::string& path,
                                 ConfigPlaces& /*places*/) {
  if (node.kind != ConfigNode::Kind::kScalar || !node.scalar.ends_with(kByEpochs)) {
    return read_integer(node, path, at_least(1));
  }
  auto number = node;
  number.quoted = false;
  number.scalar.resize(node.scalar.size() - kByEpochs.size());
  if (number.scalar.empty()) {
    return by_epochs();
  }
  if (number.scalar.back() == ' ') {
    number.scalar.pop_back();
  }
  return by_epochs(read_integer(number, path, at_least(1)));
}

ConfigNode StepCount::to_config() const {
  if (!by_epochs_) {
    return ConfigNode::plain(std::to_string(steps_));
  }
  return ConfigNode::text(is_known() ? text(steps_, " ", kByEpochs) : std::string(kByEpochs));
}

}  // namespace braid
