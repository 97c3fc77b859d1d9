#pragma once
// Where the time of training steps goes, by parts that code names itself. Costs one load of an
// atomic for each scope and product while nobody measures.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace braid {

enum class ProfilePhase {
  kForward,
  kRecomputed,  ///< forward once more, within the backward pass
  kBackward,
  kStep  ///< neither: loading, exchange, the optimizer
};
inline constexpr std::size_t kProfilePhases = 4;

/// Whose work it is that a scope encloses.
enum class ProfileKind {
  kModel,  ///< a part of the model; inner scopes are not its own
  kWhole,  ///< a part of the model with all that is inside, whatever it is called there
  kStep    ///< of the step rather than of the model
};

/// Measures the thread that made it, one at a time, and that in which autograd runs a device's
/// nodes for it. Its time is cut where a ProfileScope begins or ends and where autograd goes on to
/// another node, so that the parts add up to the whole. A node belongs to the part in whose scope
/// it was made (autograd numbers nodes in order): kernels need not know of parts.
class Profile {
 public:
  /// `wait` returns when a device has done all that was queued: called at each cut, so that a part
  /// has the time of what it queued. Nothing queues on the CPU.
  explicit Profile(std::function<void()> wait = {});
  ~Profile();
  Profile(const Profile&) = delete;
  Profile& operator=(const Profile&) = delete;

  void begin_step();
  double end_step();  ///< the step's seconds, to which those of its parts add up
  void clear();       ///< forgets the steps so far

  struct Cell {
    double seconds = 0;
    int64_t flops = 0;  ///< of products passed to count_flops()
  };
  struct Part {
    std::string name;
    ProfileKind kind = ProfileKind::kStep;
    Cell phases[kProfilePhases] = {};
  };
  /// Sums over the steps; parts as they first appeared, "other" (what no scope encloses) first.
  const std::vector<Part>& parts() const { return parts_; }

  /// For ProfileScope: returns what to give back to leave().
  struct State {
    std::size_t part = 0;
    ProfilePhase phase = ProfilePhase::kStep;
    bool whole = false;
  };
  State enter(const char* part, ProfileKind kind);
  void leave(const State& before);

  void begin_node(uint64_t number);
  void end_node();

 private:
  using Clock = std::chrono::steady_clock;

  std::size_t index_of(const char* part, ProfileKind kind);
  void switch_to(const State& next);
  void mark();

  std::function<void()> wait_;
  std::mutex mutex_;  // of enter() to end_node(): a device's nodes have a thread of their own
  std::vector<Part> parts_;
  State now_;
  Clock::time_point began_, since_;
  bool in_step_ = false;  // what runs between steps, validation for one, is not measured
  int64_t depth_ = 0;     // nodes being run, each within the one before
  // Nodes from this number on were made in this state; ascending.
  std::vector<std::pair<uint64_t, State>> marks_;
  uint64_t callback_ = 0;
};

namespace profile_detail {
inline std::atomic<bool> on = false;
inline std::atomic<int64_t> flops = 0;
Profile* of_this_thread();
}  // namespace profile_detail

/// Operations of a matrix product, by whichever thread: two for a multiply-add.
inline void count_flops(int64_t flops) {
  if (profile_detail::on.load(std::memory_order_relaxed)) {
    profile_detail::flops.fetch_add(flops, std::memory_order_relaxed);
  }
}

/// Attributes what runs during its lifetime, and the backward pass of it, to `part`, which must be
/// a string literal: the pointer is kept. Scopes nest.
class ProfileScope {
 public:
  explicit ProfileScope(const char* part, ProfileKind kind = ProfileKind::kModel)
      : profile_(profile_detail::on.load(std::memory_order_relaxed)
                     ? profile_detail::of_this_thread()
                     : nullptr) {
    if (profile_ != nullptr) {
      before_ = profile_->enter(part, kind);
    }
  }
  ~ProfileScope() {
    if (profile_ != nullptr) {
      profile_->leave(before_);
    }
  }
  ProfileScope(const ProfileScope&) = delete;
  ProfileScope& operator=(const ProfileScope&) = delete;

 private:
  Profile* profile_;
  Profile::State before_;
};

/// f() within a scope.
template <class F>
decltype(auto) profiled(const char* part, F&& f) {
  const ProfileScope scope(part);
  return std::forward<F>(f)();
}

}  // namespace braid
