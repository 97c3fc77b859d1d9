#pragma once
#include <chrono>
#include <cstdint>
#include <string>

#include "core/work.h"

namespace braid {

/// Whether a file descriptor is a terminal on which a line can be rewritten: not a file, a pipe, or
/// a terminal that calls itself dumb (TERM).
bool is_smart_terminal(int descriptor);

/// Shows on standard error how far a long part of a command is and how long it will still take,
/// once it has taken two seconds: on a terminal one line that is rewritten and removed at the end,
/// elsewhere a plain line every half minute.
class Progress {
 public:
  explicit Progress(std::string what, WorkUnit unit = WorkUnit::kThings);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `total` 0 = not known.
  void update(int64_t done, int64_t total);

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  WorkUnit unit_;
  bool terminal_, shown_once_ = false;
  Clock::time_point start_ = Clock::now(), shown_ = start_;
};

/// Shows every Work of the process (core/work.h) as a Progress.
void show_work();

}  // namespace braid
