#include "core/profile.h"

#include <algorithm>

#include <ATen/SequenceNumber.h>
#include <ATen/record_function.h>

#include "core/error.h"

namespace braid {
namespace {

thread_local Profile* t_profile = nullptr;
std::atomic<Profile*> of_devices = nullptr;  // whose nodes run on devices

// While it runs a node, a device's thread belongs to the profile.
struct NodeOnDevice : at::ObserverContext {
  NodeOnDevice() { t_profile = of_devices; }
  ~NodeOnDevice() override { t_profile = nullptr; }
  NodeOnDevice(const NodeOnDevice&) = delete;
  NodeOnDevice& operator=(const NodeOnDevice&) = delete;
};

std::unique_ptr<at::ObserverContext> node_begins(const at::RecordFunction& node) {
  std::unique_ptr<at::ObserverContext> lent;
  if (t_profile == nullptr && of_devices != nullptr) {
    lent = std::make_unique<NodeOnDevice>();
  }
  if (t_profile != nullptr) {
    t_profile->begin_node(static_cast<uint64_t>(node.seqNr()));
  }
  return lent;
}

void node_ends(const at::RecordFunction&, at::ObserverContext*) {
  if (t_profile != nullptr) {
    t_profile->end_node();
  }
}

}  // namespace

namespace profile_detail {
Profile* of_this_thread() {
  return t_profile;
}
}  // namespace profile_detail

Profile::Profile(std::function<void()> wait) : wait_(std::move(wait)) {
  index_of("other", ProfileKind::kStep);
  require(!profile_detail::on.exchange(true), "[profile] something is being measured already");
  t_profile = this;
  of_devices = wait_ ? this : nullptr;
  auto callback = at::RecordFunctionCallback(&node_begins, &node_ends)
                      .scopes({at::RecordScope::BACKWARD_FUNCTION});
  callback_ = wait_ ? at::addGlobalCallback(callback) : at::addThreadLocalCallback(callback);
  begin_step();
}

Profile::~Profile() {
  at::removeCallback(callback_);
  of_devices = nullptr;
  t_profile = nullptr;
  profile_detail::on = false;
}

void Profile::begin_step() {
  now_ = {};
  marks_.clear();
  depth_ = 0;
  profile_detail::flops = 0;
  since_ = Clock::now();
  began_ = since_;
  in_step_ = true;
}

double Profile::end_step() {
  switch_to({});
  in_step_ = false;
  return std::chrono::duration<double>(since_ - began_).count();
}

void Profile::clear() {
  for (auto& part : parts_) {
    std::ranges::fill(part.phases, Cell{});
  }
}

std::size_t Profile::index_of(const char* part, ProfileKind kind) {
  const auto found = std::ranges::find(parts_, part, &Part::name);
  if (found != parts_.end()) {
    return static_cast<std::size_t>(found - parts_.begin());
  }
  auto& added = parts_.emplace_back();
  added.name = part;
  added.kind = kind;
  return parts_.size() - 1;
}

void Profile::switch_to(const State& next) {
  if (in_step_ && wait_) {
    wait_();
  }
  const auto time = Clock::now();
  const int64_t flops = profile_detail::flops.exchange(0, std::memory_order_relaxed);
  if (in_step_) {
    auto& cell = parts_[now_.part].phases[static_cast<std::size_t>(now_.phase)];
    cell.seconds += std::chrono::duration<double>(time - since_).count();
    cell.flops += flops;
  }
  since_ = time;
  now_ = next;
}

// Nodes made from here on belong to what runs now.
void Profile::mark() {
  const uint64_t number = at::sequence_number::peek();
  if (!marks_.empty() && marks_.back().first == number) {
    marks_.back().second = now_;
  } else {
    marks_.emplace_back(number, now_);
  }
}

Profile::State Profile::enter(const char* part, ProfileKind kind) {
  const std::lock_guard lock(mutex_);
  const State before = now_;
  if (kind == ProfileKind::kStep) {
    switch_to({index_of(part, kind), ProfilePhase::kStep, before.whole});
  } else if (!before.whole) {
    switch_to({index_of(part, kind),
               depth_ > 0 ? ProfilePhase::kRecomputed : ProfilePhase::kForward,
               kind == ProfileKind::kWhole});
  }
  mark();
  return before;
}

void Profile::leave(const State& before) {
  const std::lock_guard lock(mutex_);
  switch_to(before);
  mark();
}

void Profile::end_node() {
  const std::lock_guard lock(mutex_);
  --depth_;
}

void Profile::begin_node(uint64_t number) {
  const std::lock_guard lock(mutex_);
  ++depth_;
  const auto after =
      std::ranges::upper_bound(marks_, number, {}, [](const auto& mark) { return mark.first; });
  // Sums of a parameter's gradients have no number; they follow what made these.
  if (number > at::sequence_number::peek() || after == marks_.begin()) {
    return;
  }
  const auto& made_in = std::prev(after)->second;
  const bool of_model = made_in.phase != ProfilePhase::kStep;
  switch_to({made_in.part, of_model ? ProfilePhase::kBackward : made_in.phase, false});
}

}  // namespace braid
