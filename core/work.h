#pragma once
// How far a long part of a command is, told by code that does not know who listens.
#include <cstdint>
#include <functional>
#include <string>

namespace braid {

/// Amounts are of bytes, or of what `what` names.
enum class WorkUnit { kThings, kBytes };

/// A part that may take long, from its construction to its end. Of parts within parts the outermost
/// is told. One thread at a time does the work that is told.
class Work {
 public:
  /// `total` 0 = not known.
  Work(const std::string& what, int64_t total, WorkUnit unit = WorkUnit::kThings);
  ~Work();
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  /// Adds to what is done of this thread's outermost part; without one nothing happens.
  static void did(int64_t amount);

 private:
  bool outermost_;
};

/// Hears of the work of the whole process. Calls come from the thread that works.
struct WorkListener {
  std::function<void(const std::string& what, WorkUnit unit)> begin;
  std::function<void(int64_t done, int64_t total)> update;
  std::function<void()> end;
};
void listen_to_work(WorkListener listener);

}  // namespace braid
