#include "model/expert_ring.h"

#include <algorithm>
#include <utility>

namespace braid {

ExpertRing::ExpertRing(int64_t layers)
    : layers_(static_cast<std::size_t>(std::min(layers, kBuffers))),
      expected_(static_cast<std::size_t>(layers), true),
      used_(static_cast<std::size_t>(layers)) {}

void ExpertRing::begin_pass(bool returns) {
  if (std::ranges::count(used_, true) > 0) {
    expected_ = std::exchange(used_, std::vector<bool>(used_.size()));
  }
  step_ = 1;
  returns_ = returns;
}

ExpertRing::Turn ExpertRing::turn(int64_t layer) {
  if (current_ && layer != *current_ && std::ranges::count(used_, true) > 0) {
    step_ = layer > *current_ ? 1 : -1;
  }
  const auto before = std::exchange(current_, layer);
  used_[static_cast<std::size_t>(layer)] = true;
  // Any buffer but one of the layers that are needed next.
  const auto victim = [this](int64_t kept) {
    for (std::size_t i = 0; i + 1 < layers_.size(); ++i) {
      if (layers_[i] != kept) {
        return static_cast<int64_t>(i);
      }
    }
    return static_cast<int64_t>(layers_.size()) - 1;
  };
  const auto copied_to = [this](int64_t copied, int64_t buffer) {
    layers_[static_cast<std::size_t>(buffer)] = copied;
    return Copy{copied, buffer};
  };
  Turn turn;
  if (const auto there = buffer_of(layer)) {
    turn.buffer = *there;
  } else {
    turn.missing = copied_to(layer, victim(before.value_or(layer)));
    turn.buffer = turn.missing->buffer;
  }
  const auto next = next_after(layer);
  if (next && !buffer_of(*next)) {
    turn.ahead = copied_to(*next, victim(layer));
  }
  return turn;
}

void ExpertRing::forget(int64_t buffer) {
  layers_[static_cast<std::size_t>(buffer)].reset();
}

std::optional<int64_t> ExpertRing::buffer_of(int64_t layer) const {
  const auto found = std::ranges::find(layers_, std::optional(layer));
  return found == layers_.end() ? std::nullopt : std::optional(found - layers_.begin());
}

// Behind the last layer of a pass that does not return the next pass begins.
std::optional<int64_t> ExpertRing::next_after(int64_t layer) const {
  const auto layers = static_cast<int64_t>(expected_.size());
  for (int64_t next = layer + step_; next >= 0 && next < layers; next += step_) {
    if (expected_[static_cast<std::size_t>(next)]) {
      return next;
    }
  }
  const auto first = std::ranges::find(expected_, true) - expected_.begin();
  return step_ > 0 && !returns_ && first < layers ? std::optional<int64_t>(first) : std::nullopt;
}

}  // namespace braid
