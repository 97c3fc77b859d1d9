#include "train/step_meter.h"

#include <algorithm>

#include "run/memory.h"

namespace braid {

StepMeter::StepMeter(const ProcessGrid& grid, const ShardedOptimizer& optimizer, at::Device device)
    : grid_(grid), optimizer_(optimizer), device_(device), sent_before_(sent_bytes()) {}

StepCost StepMeter::finish(std::array<int64_t, 2> shape) {
  next(nullptr);
  cost_.shape = shape;
  cost_.sent_bytes = sent_bytes();
  for (auto& [what, bytes] : cost_.sent_bytes) {
    bytes -= sent_before_.at(what);
  }
  return cost_;
}

// Since the program's start; nothing when there is no other rank.
StepMeter::SentBytes StepMeter::sent_bytes() const {
  if (grid_.place.ranks == 1) {
    return {};
  }
  return {{"sent_bytes.context", grid_.context->bytes_sent()},
          {"sent_bytes.experts", grid_.experts->bytes_sent()},
          {"sent_bytes.updates", optimizer_.bytes_sent()}};
}

void StepMeter::next(int64_t* peak) {
  const int64_t highest = TensorMemory::take_peak(device_);
  if (peak_ != nullptr) {
    *peak_ = highest - before_;
    cost_.highest_bytes = std::max(cost_.highest_bytes, highest);
  }
  peak_ = peak;
  before_ = TensorMemory::now(device_);
}

}  // namespace braid
