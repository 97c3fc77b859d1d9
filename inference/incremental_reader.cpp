#include "inference/incremental_reader.h"

#include <algorithm>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"
#include "core/interruption.h"

namespace braid {
namespace {

constexpr std::size_t kStretch = 512;  // ids computed at once, so that a signal is heard

}  // namespace

at::Tensor IncrementalReader::logits_V(const std::vector<int64_t>& ids) {
  require(!ids.empty(), "[incremental reader] there is nothing to read");
  const at::NoGradGuard no_grad;
  go_back(ids);
  const std::size_t last = ids.size() - 1;
  if (read_.size() < last) {
    feed(ids, last);
    marked_ = state_;  // its tensors are shared: passes replace them, none changes one
    mark_ = last;
  }
  return model_.logits(feed(ids, last + 1)).view({-1}).cpu();
}

// To what was read of these ids, but for at least one of them, whose logits are asked for.
void IncrementalReader::go_back(const std::vector<int64_t>& ids) {
  const auto [differs, unused] =
      std::mismatch(read_.begin(), read_.end(), ids.begin(), ids.end() - 1);
  const auto common = static_cast<std::size_t>(differs - read_.begin());
  if (common == read_.size()) {
    return;
  }
  const bool to_mark = mark_ <= common;
  const std::size_t kept = to_mark ? mark_ : 0;
  given_up_ += static_cast<int64_t>(read_.size() - kept);
  state_ = to_mark ? marked_ : DecodeState{};
  read_.resize(kept);
  mark_ = kept;
  marked_ = state_;
}

// The hidden state [1, D] of the id before `end`. A pass that fails leaves the state as it was.
at::Tensor IncrementalReader::feed(const std::vector<int64_t>& ids, std::size_t end) {
  at::Tensor hidden_BD;
  const std::size_t first = read_.size();
  while (read_.size() < end) {
    const std::size_t begin = read_.size(), next = std::min(begin + kStretch, end);
    if (begin > first) {
      stop_if_interrupted();
    }
    const std::vector<int64_t> stretch(ids.begin() + static_cast<std::ptrdiff_t>(begin),
                                       ids.begin() + static_cast<std::ptrdiff_t>(next));
    DecodeState state = state_;
    hidden_BD =
        model_.forward(at::tensor(stretch, at::kLong).view({1, -1}), state).final_BSD.select(1, -1);
    state_ = std::move(state);
    read_.insert(read_.end(), stretch.begin(), stretch.end());
  }
  return hidden_BD;
}

}  // namespace braid
